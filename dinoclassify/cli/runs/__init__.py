"""What `predict` and `embed` share: a run from its arguments to its exit code."""
