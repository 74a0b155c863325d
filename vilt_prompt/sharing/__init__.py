"""Files, the Hugging Face Hub, model cards, and the record of the base model."""
