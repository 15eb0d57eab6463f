"""Rows -> images in one folder for each label, and back again."""
