"""The images in an archive, tar or zip, without unpacking it: nothing of it is ever written to a disk.

Of a local tar and of a zip the headers are read, and each image is a `ByteRange`, for workers to read. A tar that is
compressed, or far away, is read from front to back, with one image in memory at a time. Whatever is wrong with a
member is its `Failure`; what is wrong with the archive itself is one more input, which has the archive's own path.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import BinaryIO, Literal

from dinoclassify.discovery.tar_headers import BrokenError, Header, Headers, NoArchiveError, Stream, damage
from dinoclassify.discovery.zip_directory import ZipMember, read_directory
from dinoclassify.storage.byte_range import CUT, LOCAL_HEADER
from dinoclassify.storage.remote import object_store
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MEMBER, MOST_BYTES, ByteRange, Signature, Source

_ZIPS = (".zip", ".cbz")
_PLAIN_TARS = (".tar",)
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.zst", ".tzst")
_SUFFIXES = (*_ZIPS, *_PLAIN_TARS, *_COMPRESSED_TARS)

_INDEXES = 4  # archives whose members are known by name
_MOST_INDEXED = 200_000  # members of such an archive: about 100 MB

_MOST_LOCAL_HEADER = LOCAL_HEADER.size + 2 * 0xFFFF
_ENCRYPTED = 1  # a flag of a zip's member
_PACKINGS: dict[int, Literal["stored", "deflated"]] = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive, and how to open it. Two that have the same signature are the same."""

    path: str
    open_file: Callable[[str], BinaryIO] = field(compare=False)
    signature: Signature
    streamed: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member of an archive: its name, its size in bytes, and what a `Source` has for its content."""

    name: str
    size: int
    content: ByteRange | bytes | Failure


def is_archive(path: str) -> bool:
    """Whether a path is an archive's, by its suffix."""
    return path.lower().endswith(_SUFFIXES)


def is_streamed(path: str, *, remote: bool) -> bool:
    """Whether an archive is read from front to back: each header of a tar that is far away would be a request."""
    return path.lower().endswith(_COMPRESSED_TARS) or (remote and path.lower().endswith(_PLAIN_TARS))


def split_key(path: str) -> tuple[str, str] | None:
    """The archive and the name in it that a key such as ``album.zip!summer/beach.jpg`` stands for; None if none."""
    at = path.find(MEMBER)
    while at >= 0 and not is_archive(path[:at]):
        at = path.find(MEMBER, at + 1)
    name = path[at + 1 :]
    return (path[:at], name) if at >= 0 and name else None


def members(
    path: str,
    wanted: Callable[[str], bool],
    open_file: Callable[[str], BinaryIO],
    signature: Signature,
    *,
    streamed: bool,
) -> Iterator[Source]:
    """The images in an archive, lazily and in its own order.

    What cannot be opened, or is no archive, is given as it is: as an image it gets the row that it deserves.

    Args:
        path: the archive, a file or a URL.
        wanted: which of the names in it are taken.
        open_file: opens it. A file that is streamed needs no more than `read`.
        signature: that of the archive, whose time its members have.
        streamed: what `is_streamed` says.
    """
    archive = _Archive(path, open_file, signature, streamed)
    try:
        for entry in _entries(archive, wanted):
            yield _source(archive, entry)
    except NoArchiveError:
        yield Source(path)
    except BrokenError as error:
        yield Source(path, error.failure, signature)


def member(
    path: str, name: str, open_file: Callable[[str], BinaryIO], signature: Signature, *, streamed: bool
) -> Source:
    """One member of an archive, the first that has this name. For the arguments, see `members`.

    The members of the last archives asked for are kept in memory, but for archives that are streamed or have very many.
    """
    archive = _Archive(path, open_file, signature, streamed)
    index = None if streamed else _index(archive)
    entries, otherwise = index or _by_name(islice(_entries(archive, name.__eq__), 1))
    if name in entries:
        return _source(archive, entries[name])
    return Source(f"{path}{MEMBER}{name}", otherwise)


def _source(archive: _Archive, entry: _Entry) -> Source:
    signature = entry.size, archive.signature[1]
    return Source(f"{archive.path}{MEMBER}{entry.name}", entry.content, signature)


@lru_cache(_INDEXES)
def _index(archive: _Archive) -> tuple[dict[str, _Entry], Failure] | None:
    """All entries by name, as `_by_name` gives them; None where they are too many."""
    entries = _entries(archive, lambda _: True)
    index = _by_name(islice(entries, _MOST_INDEXED))
    more, _ = _by_name(islice(entries, 1))
    return None if more else index


def _by_name(entries: Iterator[_Entry]) -> tuple[dict[str, _Entry], Failure]:
    """The first entry of each name, and what is to be said of any other name."""
    found: dict[str, _Entry] = {}
    try:
        for entry in entries:
            found.setdefault(entry.name, entry)
    except BrokenError as error:
        return found, error.failure
    return found, Failure("vanished", "no such image in the archive")


def _entries(archive: _Archive, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    """What is wanted of an archive.

    Raises:
        BrokenError: it cannot be read, or not to its end.
    """
    try:
        file = archive.open_file(archive.path)
    except OSError as error:
        raise NoArchiveError(object_store.failure(error)) from error
    with file:
        try:
            if archive.path.lower().endswith(_ZIPS):
                yield from _zip_entries(archive.path, file, wanted)
            elif archive.streamed:
                yield from _streamed_entries(file, wanted)
            else:
                yield from _tar_entries(archive.path, file, wanted)
        except BrokenError:
            raise
        except OSError as error:
            raise BrokenError(object_store.failure(error)) from error
        except Exception as error:  # tarfile and zipfile raise nearly anything on broken data
            raise BrokenError(damage(error)) from error


def _zip_entries(path: str, file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    for info in read_directory(file):
        name = _tidy(info.name)
        if name.endswith("/") or not wanted(name):
            continue
        content: ByteRange | Failure | None = _zip_refusal(name, info)
        if content is None:
            length = min(info.room, _MOST_LOCAL_HEADER + info.packed_size)  # not what has been deleted behind it
            content = ByteRange(path, info.offset, length, info.size, _PACKINGS[info.method], info.crc)
        yield _Entry(name, info.size, content)


def _zip_refusal(name: str, info: ZipMember) -> Failure | None:
    if info.flags & _ENCRYPTED:
        return Failure("unreadable", "is encrypted")
    if stat.S_ISLNK(info.mode):
        return Failure("unreadable", "is a link in the archive")
    if info.method not in _PACKINGS:
        reason = f"is packed by the method {info.method} of zip, neither stored nor deflated"
        return Failure("unsupported_format", reason)
    if info.packed_size > info.room - LOCAL_HEADER.size:
        return Failure("decode_error", "overlaps what follows it in the archive")
    return _refusal(name, max(info.size, info.packed_size))


def _tar_entries(path: str, file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    for name, header in _images(file, wanted):
        content: ByteRange | Failure | None = _tar_refusal(name, header)
        if content is None and header.offset_data + header.size > end:
            content = CUT
        yield _Entry(name, header.size, content or ByteRange(path, header.offset_data, header.size, header.size))


def _streamed_entries(file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    stream = Stream(file)
    for name, header in _images(stream, wanted):
        content: bytes | Failure | None = _tar_refusal(name, header)
        if content is None:
            try:
                content = stream.read(header.size)
            except BrokenError as error:
                yield _Entry(name, header.size, error.failure)
                raise
            if len(content) < header.size:
                content = CUT
        yield _Entry(name, header.size, content)


def _images(file: "BinaryIO | Stream", wanted: Callable[[str], bool]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    headers = Headers(fileobj=file, tarinfo=Header, encoding="utf-8", errors="surrogateescape")
    for header in iter(headers.next, None):
        name = _tidy(header.name)
        if not header.isdir() and wanted(name):
            yield name, header


def _tar_refusal(name: str, header: tarfile.TarInfo) -> Failure | None:
    if header.issym() or header.islnk():
        return Failure("unreadable", "is a link in the archive")
    if not header.isreg():
        return Failure("unreadable", "is not a regular file")
    if header.issparse():
        return Failure("unsupported_format", "is stored as a sparse file: pack it without --sparse")
    return _refusal(name, header.size)


def _refusal(name: str, size: int) -> Failure | None:
    if ".." in name.replace("\\", "/").split("/"):
        return Failure("unreadable", "its name leads out of the archive")
    if size > MOST_BYTES:
        return Failure("too_large", f"{size:,} bytes, over {MOST_BYTES:,}")
    return None


def _tidy(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
