"""Descriptions of a wrapped model: where its prompts come from and which words are near them."""
