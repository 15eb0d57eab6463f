"""Files of rows, each of a part of the inputs -> one file."""
