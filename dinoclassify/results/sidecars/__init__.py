"""Rows -> sidecar files with the labels; one file a format."""
