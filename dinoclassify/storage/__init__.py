"""Bytes read and written whole: on this machine, and in `remote` elsewhere."""
