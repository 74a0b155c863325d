"""How the small CLIP of the examples was trained."""
