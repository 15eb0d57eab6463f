"""Ascending numbers in little room: packed as they come, unpacked as they are asked for.

Of each number there is its distance from the one before, seven bits to a byte, the last of which has a clear high bit;
these bytes are deflated, and that is written in base64. Of one in 16 that is a byte each, of one in 1000 two.
"""

import base64
import zlib
from collections.abc import Iterator
from itertools import chain

_MOST_BITS = 63  # of a number
_AT_ONCE = 1024  # letters of base64 that are unpacked together, to less than a megabyte


class PackedPositions:
    """Positions of inputs, each higher than the one before."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj()
        self._packed = bytearray()
        self._next = 0

    def add(self, position: int) -> None:
        """Add a position.

        Raises:
            ValueError: it is not higher than the last one.
        """
        gap = position - self._next
        if gap < 0:
            raise ValueError(f"{position} comes after {self._next - 1}")
        while gap > 0x7F:
            self._packed += self._deflate.compress(bytes([gap & 0x7F | 0x80]))
            gap >>= 7
        self._packed += self._deflate.compress(bytes([gap]))
        self._next = position + 1

    def packed(self) -> str:
        """All positions so far, for `unpacked`."""
        return base64.b64encode(self._packed + self._deflate.copy().flush()).decode("ascii")


def unpacked(text: str) -> Iterator[int]:
    """The positions of which `PackedPositions` made this text.

    Raises:
        ValueError: it made no such text.
    """
    position, gap, bits = -1, 0, 0
    for byte in chain.from_iterable(_inflated(text)):
        gap |= (byte & 0x7F) << bits
        if byte > 0x7F:
            bits += 7
            if bits >= _MOST_BITS:
                raise ValueError("a position is too large")
        else:
            position += gap + 1
            yield position
            gap = bits = 0
    if bits:
        raise ValueError("the last position is not whole")


def _inflated(text: str) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    try:
        for start in range(0, len(text), _AT_ONCE):
            yield inflate.decompress(base64.b64decode(text[start : start + _AT_ONCE], validate=True))
        yield inflate.flush()
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("the positions are not whole")
