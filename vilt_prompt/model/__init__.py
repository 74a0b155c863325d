"""The open_clip model with prompts: its methods, its videos, and how a model is patched in place."""
