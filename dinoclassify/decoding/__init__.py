"""`Source` -> `Batch`, in supervised processes. Import its modules by name: `--help` does not wait for torch."""
