"""Bytes that are elsewhere: object stores, other file systems and the web."""
