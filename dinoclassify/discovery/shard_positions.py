"""The positions of a shard's inputs among all inputs, as compact text: packed one by one, and unpacked lazily.

Each number is stored as its distance from the previous one, in bytes of seven bits, of which the last has a clear high
bit. These bytes are deflated and encoded in base64. One shard of 16 takes a byte for each position, one of 1000 two.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from dinoclassify.discovery.filters import Shard
from dinoclassify.types.source import Source

_MOST_BITS = 63  # of a number
_CHUNK = 1024  # letters of base64 to unpack at a time, to less than a megabyte


class PackedPositions:
    """Ascending positions of inputs, packed as they are added."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj()
        self._packed = bytearray()
        self._next = 0

    def add(self, position: int) -> None:
        """Add a position; raises ValueError if it is not higher than the last one."""
        gap = position - self._next
        if gap < 0:
            raise ValueError(f"{position} comes after {self._next - 1}")
        while gap > 0x7F:
            self._packed += self._deflate.compress(bytes([gap & 0x7F | 0x80]))
            gap >>= 7
        self._packed += self._deflate.compress(bytes([gap]))
        self._next = position + 1

    def packed(self) -> str:
        """The text of all positions so far."""
        return base64.b64encode(self._packed + self._deflate.copy().flush()).decode("ascii")


class ShardCensus:
    """Counts all ``inputs`` of a run, and records the positions of those in the shard: `merge` needs both."""

    def __init__(self, shard: Shard) -> None:
        self.inputs = 0
        self._shard = shard
        self._positions = PackedPositions()

    def count(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources: all inputs."""
        for source in sources:
            self.inputs += 1
            yield source

    def record(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources: those of the shard."""
        for source in sources:
            if source.position is not None:
                self._positions.add(source.position)
            yield source

    def metadata(self, kept_before: int) -> dict[str, object]:
        """Return the entry for the run metadata of a file that begins with ``kept_before`` rows of other inputs."""
        return {
            "index": self._shard.index,
            "count": self._shard.count,
            "inputs": self.inputs,
            "kept_before": kept_before,
            "positions": self._positions.packed(),
        }


def unpacked(text: str) -> Iterator[int]:
    """The positions in a text of `PackedPositions`, lazily; raises ValueError if the text is damaged."""
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
        for start in range(0, len(text), _CHUNK):
            yield inflate.decompress(base64.b64decode(text[start : start + _CHUNK], validate=True))
        yield inflate.flush()
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("the positions are not whole")
