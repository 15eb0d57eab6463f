"""`Source` -> `Batch`, in supervised processes. Import its modules by name: `--help` must not wait for torch."""
