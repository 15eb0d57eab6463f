"""A model's name -> an image model. Import its modules by name: `--help` must not wait for torch."""
