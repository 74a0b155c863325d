"""Label and caption files of the data sets, as their authors publish them."""
