"""The Ray engine: the work of the local engine, distributed over the machines of a cluster."""
