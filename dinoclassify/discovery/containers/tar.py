"""The entries of a tar, plain or compressed: its headers, with damage distinguished from the end."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

from dinoclassify.discovery.containers import suffixes
from dinoclassify.discovery.containers.base import (
    BOMB_RATIO,
    NOT_AN_ARCHIVE,
    ArchiveFormat,
    BrokenError,
    Entry,
    NotAnArchiveError,
    Wanted,
    damage,
    refuse_member,
    tidy_name,
)
from dinoclassify.storage.reader import TRUNCATED_ARCHIVE
from dinoclassify.storage.remote.errors import failure
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange

BOMB_BYTES = 1 << 30  # a tar that decompresses to more, and to `BOMB_RATIO` times what was read, is not read further

BOMB = Failure("too_large", f"the archive unpacks to over {BOMB_RATIO} times its size; what follows is not read")

_CHUNK = 1 << 20  # bytes to skip at a time
_MOST_HEADER = 1 << 20  # bytes of a header that holds a long name or attributes
_MOST_PADDING = 1 << 20  # bytes of zeros after the end: 2048 blocks, the most that tar writes

_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"  # the first bytes of compressed files
_ZSTD_SKIPPED = b"\x2a\x4d\x18"  # bytes 2 to 4 of a file from pzstd

_LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


def tar_entries(path: str, file: BinaryIO, wanted: Wanted) -> Iterator[Entry]:
    """The wanted members of a plain tar in which one may seek."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    for name, header in _wanted_headers(file, wanted):
        content: ByteRange | Failure | None = _refuse(name, header)
        if content is None and header.offset_data + header.size > end:
            content = TRUNCATED_ARCHIVE
        yield Entry(name, header.size, content or ByteRange(path, header.offset_data, header.size, header.size))


def stream_entries(_: str, file: BinaryIO, wanted: Wanted) -> Iterator[Entry]:
    """The wanted members of a tar that is read from front to back and may be compressed, each with its bytes."""
    stream = Stream(file)
    for name, header in _wanted_headers(stream, wanted):
        content: bytes | Failure | None = _refuse(name, header)
        if content is None:
            try:
                content = stream.read(header.size)
            except BrokenError as error:
                yield Entry(name, header.size, error.failure)
                raise
            if len(content) < header.size:
                content = TRUNCATED_ARCHIVE
        yield Entry(name, header.size, content)


TAR = ArchiveFormat(suffixes.TAR, tar_entries, stream_entries)
COMPRESSED_TAR = ArchiveFormat(suffixes.COMPRESSED_TAR, stream_entries, stream_entries)


def _wanted_headers(file: "BinaryIO | Stream", wanted: Wanted) -> Iterator[tuple[str, tarfile.TarInfo]]:
    headers = Headers(fileobj=file, tarinfo=Header, encoding="utf-8", errors="surrogateescape")
    for header in iter(headers.next, None):
        name = tidy_name(header.name)
        if not header.isdir() and wanted(name):
            yield name, header


def _refuse(name: str, header: tarfile.TarInfo) -> Failure | None:
    if header.issym() or header.islnk():
        return Failure("unreadable", "is a link in the archive")
    if not header.isreg():
        return Failure("unreadable", "is not a regular file")
    if header.issparse():
        return Failure("unsupported_format", "is stored as a sparse file: pack it without --sparse")
    return refuse_member(name, header.size)


class _ZerosError(tarfile.HeaderError):
    """A block of zeros in place of a header marks the end."""


class _CutError(Exception):
    """The file ends within a header."""


class Header(tarfile.TarInfo):
    """A header of bounded size: `tarfile` reads long names and attributes into memory, whatever their size."""

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


class Headers(tarfile.TarFile):
    """The headers of a tar, one by one, also of several concatenated tars.

    `TarFile` itself keeps all headers, and takes a damaged one for the end.
    """

    firstmember: tarfile.TarInfo | None
    ended = False

    def next(self) -> tarfile.TarInfo | None:
        """The next header; None at the end."""
        if self.firstmember is not None:  # `TarFile` reads it to open the file
            first, self.firstmember = self.firstmember, None
            return first
        for _ in range(_MOST_PADDING // tarfile.BLOCKSIZE):
            try:
                self.fileobj.seek(self.offset)
                header = self.tarinfo.fromtarfile(self)
                if header.size < 0:  # by its attributes; it would lead back, in an endless loop
                    raise tarfile.HeaderError("a negative size")
            except _ZerosError:
                self.ended = True
                self.offset += tarfile.BLOCKSIZE
            except _CutError as error:
                if self.ended:
                    break
                raise self._trouble(TRUNCATED_ARCHIVE) from error
            except tarfile.HeaderError as error:
                raise self._trouble(damage(error)) from error
            else:
                self.ended = False
                return header
        return None

    def _trouble(self, failure: Failure) -> BrokenError:
        in_first_block = self.offset == 0 and self.fileobj.tell() <= tarfile.BLOCKSIZE
        return NotAnArchiveError(NOT_AN_ARCHIVE) if in_first_block else BrokenError(failure)


class Stream(io.RawIOBase):
    """A tar that is read from front to back and decompressed if need be; every error is a `BrokenError`."""

    def __init__(self, file: BinaryIO) -> None:
        self._raw = _Raw(file)
        self._read = _decompressing(self._raw)
        self._at = 0

    def tell(self) -> int:
        """The position: the number of bytes read."""
        return self._at

    def seek(self, position: int, _: int = os.SEEK_SET, /) -> int:
        """Skip ahead to ``position``, or to the end; returns the new position."""
        while self._at < position and self.read(min(position - self._at, _CHUNK)):
            pass
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """The next ``size`` bytes; fewer at the end."""
        pieces: list[bytes] = []
        left = size
        while left > 0 and (piece := self._piece(left)):
            pieces.append(piece)
            left -= len(piece)
        self._at += size - left
        if self._at > max(BOMB_BYTES, BOMB_RATIO * self._raw.count):
            raise BrokenError(BOMB)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        try:
            return self._read(size)
        except Exception as error:
            if self._raw.trouble is not None:
                raise BrokenError(failure(self._raw.trouble)) from error
            raise BrokenError(TRUNCATED_ARCHIVE if self._raw.ended else damage(error)) from error


class _Raw(io.RawIOBase):
    """The raw bytes of an archive, counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.count = 0
        self.ended = False  # the file was read past its end: a truncated archive, not a damaged one
        self.trouble: Exception | None = None  # an error of the file itself, not of its content
        self.head = file.read(4)
        self._ahead = self.head
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes; notes the end of the file, and its errors."""
        try:
            piece, self._ahead = self._ahead or self._file.read(size), b""
        except Exception as error:
            self.trouble = error
            raise
        self.count += len(piece)
        self.ended = not piece
        return piece


def _decompressing(raw: _Raw) -> Callable[[int], bytes]:
    """A function that reads the content of a file, decompressed if need be."""
    if raw.head.startswith(_GZIP):
        kind = "gzip"
    elif raw.head.startswith(_BZIP2):
        kind = "bz2"
    elif raw.head == _ZSTD or raw.head[1:] == _ZSTD_SKIPPED:
        kind = "zstd"
    else:
        return raw.read
    import pyarrow as pa

    read: Callable[[int], bytes] = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), kind).read
    return read
