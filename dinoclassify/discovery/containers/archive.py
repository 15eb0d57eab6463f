"""The images in an archive, without unpacking it: nothing of it is ever written to a disk.

An archive on this machine and a zip anywhere are indexed: their headers are read, and each image is a `ByteRange` for
the workers to read. A compressed tar and a remote tar are read from front to back, with one image in memory at a
time. A member that cannot be read is a `Source` with its `Failure`. A broken archive is one more source, under the
path of the archive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from dinoclassify.discovery.containers.base import (
    ArchiveFormat,
    BrokenError,
    Entry,
    NotAnArchiveError,
    Opener,
    Wanted,
    damage,
)
from dinoclassify.discovery.containers.tar import COMPRESSED_TAR, TAR
from dinoclassify.discovery.containers.zip import ZIP
from dinoclassify.storage.remote.errors import failure
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MEMBER, Signature, Source

FORMATS: tuple[ArchiveFormat, ...] = (ZIP, TAR, COMPRESSED_TAR)

_INDEXES = 4  # archives whose index stays in memory
_MOST_INDEXED = 200_000  # members of an archive whose index stays in memory: about 100 MB


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive, and how to open it. Two with the same path and signature are the same."""

    path: str
    open_file: Opener = field(compare=False)
    signature: Signature
    streamed: bool


def is_streamed(path: str) -> bool:
    """Whether an archive is read from front to back. Remote tars are, because each header would be a request."""
    kind = _format_of(path)
    return kind is not None and kind.stream is not None and (is_url(path) or kind.read is kind.stream)


def members(path: str, wanted: Wanted, open_file: Opener, signature: Signature, *, streamed: bool) -> Iterator[Source]:
    """The images in an archive, a file or a URL, that are wanted by their name, lazily and in the archive's own order.

    A file that cannot be opened, or is no archive, is yielded as a plain image: decoding it then says what is wrong. A
    ``streamed`` archive, see `is_streamed`, needs only `read`. The ``signature`` is that of the archive; members have
    its time.
    """
    archive = _Archive(path, open_file, signature, streamed)
    try:
        for entry in _entries(archive, wanted):
            yield _source(archive, entry)
    except NotAnArchiveError:
        yield Source(path)
    except BrokenError as error:
        yield Source(path, error.failure, signature)


def member(path: str, name: str, open_file: Opener, signature: Signature) -> Source:
    """The first member of an archive that has this name; the arguments are those of `members`.

    The indexes of the last few archives stay in memory, unless they are streamed or have very many members.
    """
    archive = _Archive(path, open_file, signature, is_streamed(path))
    index = None if archive.streamed else _index(archive)
    entries, otherwise = index or _by_name(islice(_entries(archive, name.__eq__), 1))
    if name in entries:
        return _source(archive, entries[name])
    return Source(f"{path}{MEMBER}{name}", otherwise)


def _source(archive: _Archive, entry: Entry) -> Source:
    signature = entry.size, archive.signature[1]
    return Source(f"{archive.path}{MEMBER}{entry.name}", entry.content, signature)


@lru_cache(_INDEXES)
def _index(archive: _Archive) -> tuple[dict[str, Entry], Failure] | None:
    """All entries as `_by_name` returns them; None if there are too many."""
    entries = _entries(archive, lambda _: True)
    index = _by_name(islice(entries, _MOST_INDEXED))
    more, _ = _by_name(islice(entries, 1))
    return None if more else index


def _by_name(entries: Iterator[Entry]) -> tuple[dict[str, Entry], Failure]:
    """The first entry of each name, and the failure of any other name."""
    by_name: dict[str, Entry] = {}
    try:
        for entry in entries:
            by_name.setdefault(entry.name, entry)
    except BrokenError as error:
        return by_name, error.failure
    return by_name, Failure("vanished", "no such image in the archive")


def _entries(archive: _Archive, wanted: Wanted) -> Iterator[Entry]:
    """The wanted entries of an archive; raises BrokenError if it cannot be read, or not to its end."""
    kind = _format_of(archive.path) or TAR
    read = (archive.streamed and kind.stream) or kind.read
    try:
        file = archive.open_file(archive.path)
    except OSError as error:
        raise NotAnArchiveError(failure(error)) from error
    with file:
        try:
            yield from read(archive.path, file, wanted)
        except BrokenError:
            raise
        except OSError as error:
            raise BrokenError(failure(error)) from error
        except Exception as error:  # tarfile and zipfile raise nearly anything on broken data
            raise BrokenError(damage(error)) from error


def _format_of(path: str) -> ArchiveFormat | None:
    return next((kind for kind in FORMATS if path.lower().endswith(kind.suffixes)), None)
