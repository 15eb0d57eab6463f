"""What the readers of archives and tables share: the entries they yield, and the failures that end a reading."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from dinoclassify.messages import first_line
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MOST_BYTES, ByteRange

# Content this many times as large as the bytes read for it, and larger than its format's `BOMB_BYTES`, is a
# decompression bomb.
BOMB_RATIO = 200

NOT_AN_ARCHIVE = Failure("unreadable", "the file that should hold it is not an archive")

Wanted: TypeAlias = Callable[[str], bool]  # whether the member of this name is taken
Opener: TypeAlias = Callable[[str], BinaryIO]  # opens a container by its path


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an archive: its name, its size in bytes, and the content of its `Source`."""

    name: str
    size: int
    content: ByteRange | bytes | Failure


# (path of the archive, the open archive, filter of names) -> the wanted members in the archive's own order.
EntryReader: TypeAlias = Callable[[str, BinaryIO, Wanted], Iterator[Entry]]


@dataclass(frozen=True, slots=True)
class ArchiveFormat:
    """A format of archives: its suffixes and its readers.

    ``read`` may seek: it reads headers only, and each member is a `ByteRange` for the workers to read. ``stream`` reads
    from front to back, and each member comes with its bytes; it is for remote archives, where each header would be a
    request. In a format that has no headers to seek, ``read`` and ``stream`` are the same.
    """

    suffixes: tuple[str, ...]
    read: EntryReader
    stream: EntryReader | None = None


class BrokenError(Exception):
    """A container cannot be read to its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class NotAnArchiveError(BrokenError):
    """The file cannot be opened, or is something else."""


def damage(error: Exception) -> Failure:
    """The failure of an archive that cannot be read any further."""
    return Failure("decode_error", f"the archive is damaged: {first_line(error)}; what follows is not read")


def refuse_member(name: str, size: int) -> Failure | None:
    """Why a member of any archive is refused: its unsafe name, or its size in bytes; None if it may be read."""
    if ".." in name.replace("\\", "/").split("/"):
        return Failure("unreadable", "its name leads out of the archive")
    return refuse_size(size)


def refuse_size(size: int) -> Failure | None:
    """Why an image of ``size`` bytes is refused; None if it may be read."""
    return Failure("too_large", f"{size:,} bytes, over {MOST_BYTES:,}") if size > MOST_BYTES else None


def tidy_name(name: str) -> str:
    """The name of a member without leading ``./``."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
