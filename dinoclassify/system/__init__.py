"""The limits of the machine and its containers: processors, memory, processes, temporary files."""
