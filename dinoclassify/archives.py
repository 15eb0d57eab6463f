"""The pictures in an archive, tar or zip, without unpacking it: nothing of it is ever written to a disk.

Of a local tar and of a zip the headers are read, and each picture is a `Span`, for workers to read. A tar that is
compressed, or far away, is read from front to back, with one picture in memory at a time. Whatever is wrong with a
member is its `Failure`; what is wrong with the archive itself is one more input, which has the archive's own path.
"""

import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from typing import BinaryIO, Literal, Self

from dinoclassify import stores
from dinoclassify.errors import first_line
from dinoclassify.files import Signature
from dinoclassify.rows import Failure
from dinoclassify.sources import MEMBER, MOST_BYTES, Source, Span

BOMB_BYTES = 1 << 30  # a compressed tar that has become larger than this, ...
BOMB_RATIO = 200  # and so many times as large as what was read of it, is not read further

_ZIPS = (".zip", ".cbz")
_PLAIN_TARS = (".tar",)
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.zst", ".tzst")
_SUFFIXES = (*_ZIPS, *_PLAIN_TARS, *_COMPRESSED_TARS)

_INDEXES = 4  # archives whose members are known by name
_CHUNK = 1 << 20  # bytes that are skipped at a time
_MOST_HEADER = 1 << 20  # bytes of a tar's header that holds a long name or attributes
_MOST_PADDING = 1 << 20  # bytes of zeros behind the end of a tar: 2048 blocks, the most that tar writes

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what such files begin with
_ZSTD_SKIPPED = b"\x2a\x4d\x18"  # behind a byte: how pzstd begins

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: magic, length of its name, and of its extra fields
_MOST_LOCAL_HEADER = _LOCAL_HEADER.size + 2 * 0xFFFF
_MAGIC = b"PK\3\4"  # of such a header
_ENCRYPTED = 1  # a flag of a zip's member
_PACKINGS: dict[int, Literal["stored", "deflated"]] = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}

_LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)

_CUT = Failure("truncated", "the archive ends too early: it has been cut short")
_BOMB = Failure("too_large", f"the archive becomes over {BOMB_RATIO} times as large; what follows is not read")
_NO_ARCHIVE = Failure("unreadable", "what should be its archive is none")


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
    content: Span | bytes | Failure


class _BrokenError(Exception):
    """Ends the reading of an archive before its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _NoArchiveError(_BrokenError):
    """It cannot be opened, or is something else."""


def _damage(error: Exception) -> Failure:
    return Failure("decode_error", f"the archive is damaged: {first_line(error)}; what follows is not read")


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
    """The pictures in an archive, lazily and in its own order.

    What cannot be opened, or is no archive, is given as it is: as a picture it gets the row that it deserves.

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
    except _NoArchiveError:
        yield Source(path)
    except _BrokenError as error:
        yield Source(path, error.failure, signature)


def member(
    path: str, name: str, open_file: Callable[[str], BinaryIO], signature: Signature, *, streamed: bool
) -> Source:
    """One member of an archive, the first that has this name. For the arguments, see `members`.

    The last archives asked for are kept by their names in memory, but for those that are streamed.
    """
    archive = _Archive(path, open_file, signature, streamed)
    if streamed:
        entries, otherwise = _by_name(islice(_entries(archive, name.__eq__), 1))
    else:
        entries, otherwise = _index(archive)
    if name in entries:
        return _source(archive, entries[name])
    return Source(f"{path}{MEMBER}{name}", otherwise)


def unpack(span: Span, raw: bytes) -> bytes | Failure:
    """A picture, from the bytes of its archive that are its ``span``."""
    if len(raw) < span.length:
        return _CUT
    if span.packing == "plain":
        return raw
    magic, name_length, extra_length = _LOCAL_HEADER.unpack_from(raw)
    if magic != _MAGIC:
        return Failure("decode_error", "its header in the archive is damaged")
    packed = memoryview(raw)[_LOCAL_HEADER.size + name_length + extra_length :]
    try:
        content = _inflate(packed, span.size) if span.packing == "deflated" else bytes(packed[: span.size])
    except zlib.error as error:
        return Failure("decode_error", f"its data in the archive are damaged: {first_line(error)}")
    if len(content) > span.size:
        return Failure("too_large", f"is larger than the {span.size:,} bytes that its archive says")
    if len(content) < span.size or zlib.crc32(content) != span.crc:
        return Failure("decode_error", "its data in the archive are damaged: wrong size or checksum")
    return content


def _inflate(packed: memoryview, size: int) -> bytes:
    """What is in it; no more than one byte more than it should be."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)


def _source(archive: _Archive, entry: _Entry) -> Source:
    mtime_ns = archive.signature[1]
    signature = (None, None) if mtime_ns is None else (entry.size, mtime_ns)
    return Source(f"{archive.path}{MEMBER}{entry.name}", entry.content, signature)


@lru_cache(_INDEXES)
def _index(archive: _Archive) -> tuple[dict[str, _Entry], Failure]:
    return _by_name(_entries(archive, lambda _: True))


def _by_name(entries: Iterator[_Entry]) -> tuple[dict[str, _Entry], Failure]:
    """The first entry of each name, and what is to be said of any other name."""
    found: dict[str, _Entry] = {}
    try:
        for entry in entries:
            found.setdefault(entry.name, entry)
    except _BrokenError as error:
        return found, error.failure
    return found, Failure("vanished", "no such picture in the archive")


def _entries(archive: _Archive, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    """What is wanted of an archive.

    Raises:
        _BrokenError: it cannot be read, or not to its end.
    """
    try:
        file = archive.open_file(archive.path)
    except OSError as error:
        raise _NoArchiveError(stores.failure(error)) from error
    with file:
        try:
            if archive.path.lower().endswith(_ZIPS):
                yield from _zip_entries(archive.path, file, wanted)
            elif archive.streamed:
                yield from _streamed_entries(file, wanted)
            else:
                yield from _tar_entries(archive.path, file, wanted)
        except _BrokenError:
            raise
        except OSError as error:
            raise _BrokenError(stores.failure(error)) from error
        except Exception as error:  # tarfile and zipfile raise nearly anything on broken data
            raise _BrokenError(_damage(error)) from error


def _zip_entries(path: str, file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    infos, end = _directory(file)
    starts = [*sorted(info.header_offset for info in infos), end]
    following = dict(reversed(list(pairwise(starts))))  # of two that start at the same place, both have no room
    for info in infos:
        name = _tidy(info.filename)
        if info.is_dir() or not wanted(name):
            continue
        room = following[info.header_offset] - info.header_offset
        content: Span | Failure | None = _zip_refusal(name, info, room)
        if content is None:
            length = min(room, _MOST_LOCAL_HEADER + info.compress_size)  # not what has been deleted behind it
            packing = _PACKINGS[info.compress_type]
            content = Span(path, info.header_offset, length, info.file_size, packing, info.CRC)
        yield _Entry(name, info.file_size, content)


def _directory(file: BinaryIO) -> tuple[list[zipfile.ZipInfo], int]:
    """What a zip says of its members, and where in the file it says so: behind all of them."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        if isinstance(error.__context__, OSError):  # which it would pass off as no zip file
            raise error.__context__ from None
        if zipfile.is_zipfile(file):
            raise
        file.seek(0)
        raise (_BrokenError(_CUT) if file.read(4) == _MAGIC else _NoArchiveError(_NO_ARCHIVE)) from error
    file.seek(0)
    if not archive.infolist() and file.read(4) == _MAGIC:
        raise zipfile.BadZipFile("its directory says that it is empty")
    return archive.infolist(), archive.start_dir


def _zip_refusal(name: str, info: zipfile.ZipInfo, room: int) -> Failure | None:
    if info.flag_bits & _ENCRYPTED:
        return Failure("unreadable", "is encrypted")
    if stat.S_ISLNK(info.external_attr >> 16):
        return Failure("unreadable", "is a link in the archive")
    if info.compress_type not in _PACKINGS:
        reason = f"is packed by the method {info.compress_type} of zip, neither stored nor deflated"
        return Failure("unsupported_format", reason)
    if info.compress_size > room - _LOCAL_HEADER.size:
        return Failure("decode_error", "overlaps what follows it in the archive")
    return _refusal(name, max(info.file_size, info.compress_size))


def _tar_entries(path: str, file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    for name, header in _pictures(file, wanted):
        content: Span | Failure | None = _tar_refusal(name, header)
        if content is None and header.offset_data + header.size > end:
            content = _CUT
        yield _Entry(name, header.size, content or Span(path, header.offset_data, header.size, header.size))


def _streamed_entries(file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[_Entry]:
    stream = _Stream(file)
    for name, header in _pictures(stream, wanted):
        content: bytes | Failure | None = _tar_refusal(name, header)
        if content is None:
            try:
                content = stream.read(header.size)
            except _BrokenError as error:
                yield _Entry(name, header.size, error.failure)
                raise
            if len(content) < header.size:
                content = _CUT
        yield _Entry(name, header.size, content)


def _pictures(file: "BinaryIO | _Stream", wanted: Callable[[str], bool]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    headers = _Headers(fileobj=file, tarinfo=_Header, encoding="utf-8", errors="surrogateescape")
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


class _ZerosError(tarfile.HeaderError):
    """A block of zeros in place of a header: the mark of the end."""


class _CutError(Exception):
    """Less than a block in place of a header."""


class _Header(tarfile.TarInfo):
    """A header of a tar that may not be as long as it likes: `tarfile` has those with long names all in memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in a block."""
        if len(buf) < tarfile.BLOCKSIZE:
            raise _CutError
        if not any(buf):
            raise _ZerosError
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _LONG_HEADERS and header.size > _MOST_HEADER):
            raise tarfile.HeaderError(f"a header says {header.size:,} bytes")
        return header


class _Headers(tarfile.TarFile):
    """The headers of a tar, one by one; of several tars, if one stands behind the other.

    `TarFile` itself keeps them all, and takes a damaged one for the end.
    """

    firstmember: tarfile.TarInfo | None
    ended = False

    def next(self) -> tarfile.TarInfo | None:
        """The next header; None at the end."""
        if self.firstmember is not None:  # which was read to open the file
            first, self.firstmember = self.firstmember, None
            return first
        for _ in range(_MOST_PADDING // tarfile.BLOCKSIZE):
            try:
                self.fileobj.seek(self.offset)
                header = self.tarinfo.fromtarfile(self)
                if header.size < 0:  # by its attributes; it would lead back, and so round for ever
                    raise tarfile.HeaderError("a negative size")
            except _ZerosError:
                self.ended = True
                self.offset += tarfile.BLOCKSIZE
            except _CutError as error:
                if self.ended:
                    break
                raise self._trouble(_CUT) from error
            except tarfile.HeaderError as error:
                raise self._trouble(_damage(error)) from error
            else:
                self.ended = False
                return header
        return None

    def _trouble(self, failure: Failure) -> _BrokenError:
        in_first_block = self.offset == 0 and self.fileobj.tell() <= tarfile.BLOCKSIZE
        return _NoArchiveError(_NO_ARCHIVE) if in_first_block else _BrokenError(failure)


class _Stream(io.RawIOBase):
    """A tar that is read from front to back, and decompressed if it begins like a compressed file.

    Whatever goes wrong with that is a `_BrokenError`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._raw = _Raw(file)
        self._read = _decompressing(self._raw)
        self._at = 0

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._at

    def seek(self, position: int, _: int = os.SEEK_SET, /) -> int:
        """Skip what stands before it, as far as there is so much."""
        while self._at < position and self.read(min(position - self._at, _CHUNK)):
            pass
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes; fewer at the end."""
        pieces: list[bytes] = []
        left = size
        while left > 0 and (piece := self._piece(left)):
            pieces.append(piece)
            left -= len(piece)
        self._at += size - left
        if self._at > max(BOMB_BYTES, BOMB_RATIO * self._raw.count):
            raise _BrokenError(_BOMB)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        try:
            return self._read(size)
        except Exception as error:
            if self._raw.trouble is not None:
                raise _BrokenError(stores.failure(self._raw.trouble)) from error
            raise _BrokenError(_CUT if self._raw.ended else _damage(error)) from error


class _Raw(io.RawIOBase):
    """The bytes of an archive as they are, counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.count = 0
        self.ended = False  # more was asked for than there is: so an archive that is cut is told from a damaged one
        self.trouble: Exception | None = None  # with the file, not with what is in it
        self.head = file.read(4)
        self._ahead = self.head
        self._file = file

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, or fewer; none at the end."""
        try:
            piece, self._ahead = self._ahead or self._file.read(size), b""
        except Exception as error:
            self.trouble = error
            raise
        self.count += len(piece)
        self.ended = not piece
        return piece


def _decompressing(raw: _Raw) -> Callable[[int], bytes]:
    """What reads the content of a file that may be compressed."""
    if raw.head.startswith(_GZIP):
        kind = "gzip"
    elif raw.head == _ZSTD or raw.head[1:] == _ZSTD_SKIPPED:
        kind = "zstd"
    else:
        return raw.read
    import pyarrow as pa

    read: Callable[[int], bytes] = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), kind).read
    return read
