"""The paper's experiments on the data sets of the field: recognition and retrieval."""
