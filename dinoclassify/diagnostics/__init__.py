"""`bench` measures this machine; `doctor` examines it."""
