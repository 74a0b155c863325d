"""The clips that come with the examples, and their lists."""
