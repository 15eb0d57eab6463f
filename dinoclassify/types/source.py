"""What an input is: its name, and where its bytes are if not in a file of that name."""

from dataclasses import dataclass, replace
from typing import Literal

from dinoclassify.types.prediction import Failure

# The size in bytes and the mtime_ns of a file: both None where there is none. The time alone is None of an object of
# which only its size is known: whether such a one has changed nobody can say.
Signature = tuple[int, int | None] | tuple[None, None]

MEMBER = "!"  # stands between an archive and the name of an image in it: ``album.zip!summer/beach.jpg``
MAX_PIXELS = 100_000_000  # of one image: 300 MB as RGB, in each worker
TIMEOUT = 120.0  # seconds for one image
MOST_BYTES = 512 << 20  # of one image that has to be in memory as it is, each time it is read


@dataclass(frozen=True, slots=True)
class ByteRange:
    """An image that is a run of bytes in an archive, which can be read without what stands before it.

    ``packing`` says what the ``length`` bytes from ``offset`` on are: the image itself (``plain``), or a member of a
    zip with its local header (``stored``, ``deflated``). ``size`` is that of the image, in bytes; ``crc`` its CRC-32,
    where the archive has one.
    """

    archive: str
    offset: int
    length: int
    size: int
    packing: Literal["plain", "stored", "deflated"] = "plain"
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class SequentialContainer:
    """Not one image but many: an archive or a table that is read from front to back.

    ``column`` is that of a table which has the images.
    """

    column: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One input, as found: the prefix the user typed is kept.

    ``content`` is where its bytes are, if not in a file or an object called ``path``; they themselves; or why there are
    none. ``signature`` is the size and time that are known without asking again. ``position`` is its number among all
    inputs, of which the run takes a part.
    """

    path: str
    content: ByteRange | SequentialContainer | Failure | bytes | None = None
    signature: Signature | None = None
    position: int | None = None

    def without_bytes(self) -> "Source":
        """The same, but for bytes that it has with it."""
        return replace(self, content=None) if isinstance(self.content, bytes) else self
