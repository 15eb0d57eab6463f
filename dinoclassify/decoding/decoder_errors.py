"""What Pillow's decoders raise: which errors mean damaged data, and which a lack of memory.

A decoder ends with a status, and Pillow raises most of them in words: as an OSError without a number. All other errors
say in their own words what is wrong.
"""

_READING = "when reading image file"

_DAMAGED = {
    f"buffer overrun {_READING}",  # status -1
    f"broken data stream {_READING}",  # status -2
    f"unrecognized data stream contents {_READING}",  # status -3
    "decoder error -1",  # from libtiff
    "decoder error -2",
    "decoder error -3",
    "could not create decoder object",  # from libwebp, for a file that ends too early
    "failed to read next frame",  # from libwebp
}
_NO_MEMORY = {f"out of memory {_READING}", "decoder error -9"}  # status -9


def is_damage(error: Exception) -> bool:
    """Whether an error is the code of a decoder for damaged data."""
    return isinstance(error, OSError) and error.errno is None and str(error) in _DAMAGED


def is_lack_of_memory(error: Exception) -> bool:
    """Whether an error means that there was not enough memory to decode."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and str(error) in _NO_MEMORY)
