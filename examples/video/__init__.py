"""Videos for the scripts: decoding, frame sampling, a Dataset, class names, strips of frames."""
