"""The paper's experiments in miniature, on the cut-out clips of this repository."""
