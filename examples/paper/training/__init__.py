"""The training loop of the paper's scripts: batches, options, resuming, logs."""
