"""What the machine and its containers allow: processors, memory, processes, temporary files."""
