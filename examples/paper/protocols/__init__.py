"""The protocols of video recognition and retrieval: which classes and videos count, and how results are counted."""
