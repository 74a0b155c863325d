"""Descriptions of a wrapped model: the origin of its prompts, and the words that are nearest to them."""
