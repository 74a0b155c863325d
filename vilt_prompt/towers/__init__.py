"""The image and text encoders of open_clip, timm and Hugging Face, and how prompts run through them."""
