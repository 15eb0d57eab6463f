"""A model's name -> an image model. Import its modules by name: `--help` does not wait for torch."""
