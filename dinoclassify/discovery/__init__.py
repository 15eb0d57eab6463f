"""PATHS -> a lazy stream of `Source`; `discover` is the entry, `location` says what a path names."""
