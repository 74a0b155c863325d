"""Checkpoints of the papers' research code, read as adapters."""
