"""The same rooms, arranged over the machines of a Ray cluster."""
