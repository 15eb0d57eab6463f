"""Rows -> a file, a folder of parts or a stream."""
