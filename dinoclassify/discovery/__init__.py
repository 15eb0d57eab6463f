"""PATHS -> a lazy stream of `Source`."""
