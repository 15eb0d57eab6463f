"""An input: its path, and where its bytes are if not in a file of that name."""

from dataclasses import dataclass, replace
from typing import Literal

from dinoclassify.types.prediction import Failure

# The size in bytes and the mtime_ns of a file; both None if it does not exist. Only the time is None for an object of
# known size but unknown time, which may have changed.
Signature = tuple[int, int | None] | tuple[None, None]

MEMBER = "!"  # separates an archive from the name of an image in it: ``album.zip!summer/beach.jpg``
MAX_PIXELS = 100_000_000  # of one image: 300 MB as RGB, in each worker
TIMEOUT = 120.0  # seconds for one image
MOST_BYTES = 512 << 20  # of one encoded image that is read into memory


@dataclass(frozen=True, slots=True)
class ByteRange:
    """An image in a range of bytes of an archive, which can be read by itself.

    ``packing`` says what the ``length`` bytes from ``offset`` are: the image itself (``plain``), or a member of a zip
    with its local header (``stored``, ``deflated``). ``size`` is the size of the image in bytes, ``crc`` its CRC-32 if
    the archive has one.
    """

    archive: str
    offset: int
    length: int
    size: int
    packing: Literal["plain", "stored", "deflated"] = "plain"
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class SequentialContainer:
    """Many images: an archive that is read from front to back, or a table whose ``column`` has the images."""

    column: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One input. Its path keeps the prefix that the user typed.

    ``content`` is None for a file or an object called ``path``. Otherwise it is where the bytes are, or the bytes
    themselves, or why there are none. ``signature`` is the size and time, if already known. ``position`` is its number
    among all inputs, if the run takes a shard of them.
    """

    path: str
    content: ByteRange | SequentialContainer | Failure | bytes | None = None
    signature: Signature | None = None
    position: int | None = None

    def without_bytes(self) -> "Source":
        """The same source without the bytes of its image."""
        return replace(self, content=None) if isinstance(self.content, bytes) else self
