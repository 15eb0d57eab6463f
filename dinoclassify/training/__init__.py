"""Features -> a linear head -> a model folder."""
