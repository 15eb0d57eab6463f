"""The names of classes, and groups of classes."""
