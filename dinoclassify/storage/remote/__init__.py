"""Files in object stores, on other file systems and on the web."""
