"""A tar as what it is: headers, told apart from damage and from the end; and, if it is compressed, what it becomes."""

import io
import os
import tarfile
from collections.abc import Callable
from typing import BinaryIO, Self

from dinoclassify.messages import first_line
from dinoclassify.storage.byte_range import CUT
from dinoclassify.storage.remote import object_store
from dinoclassify.types.prediction import Failure

BOMB_BYTES = 1 << 30  # a compressed tar that has become larger than this, ...
BOMB_RATIO = 200  # and so many times as large as what was read of it, is not read further

BOMB = Failure("too_large", f"the archive becomes over {BOMB_RATIO} times as large; what follows is not read")
NO_ARCHIVE = Failure("unreadable", "what should be its archive is none")

_CHUNK = 1 << 20  # bytes that are skipped at a time
_MOST_HEADER = 1 << 20  # bytes of a tar's header that holds a long name or attributes
_MOST_PADDING = 1 << 20  # bytes of zeros behind the end of a tar: 2048 blocks, the most that tar writes

_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"  # what such files begin with
_ZSTD_SKIPPED = b"\x2a\x4d\x18"  # behind a byte: how pzstd begins

_LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


class BrokenError(Exception):
    """Ends the reading of an archive before its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class NoArchiveError(BrokenError):
    """It cannot be opened, or is something else."""


def damage(error: Exception) -> Failure:
    """What is said of an archive that cannot be read any further."""
    return Failure("decode_error", f"the archive is damaged: {first_line(error)}; what follows is not read")


class _ZerosError(tarfile.HeaderError):
    """A block of zeros in place of a header: the mark of the end."""


class _CutError(Exception):
    """Less than a block in place of a header."""


class Header(tarfile.TarInfo):
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


class Headers(tarfile.TarFile):
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
                raise self._trouble(CUT) from error
            except tarfile.HeaderError as error:
                raise self._trouble(damage(error)) from error
            else:
                self.ended = False
                return header
        return None

    def _trouble(self, failure: Failure) -> BrokenError:
        in_first_block = self.offset == 0 and self.fileobj.tell() <= tarfile.BLOCKSIZE
        return NoArchiveError(NO_ARCHIVE) if in_first_block else BrokenError(failure)


class Stream(io.RawIOBase):
    """A tar that is read from front to back, and decompressed if it begins like a compressed file.

    Whatever goes wrong with that is a `BrokenError`.
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
            raise BrokenError(BOMB)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        try:
            return self._read(size)
        except Exception as error:
            if self._raw.trouble is not None:
                raise BrokenError(object_store.failure(self._raw.trouble)) from error
            raise BrokenError(CUT if self._raw.ended else damage(error)) from error


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
    elif raw.head.startswith(_BZIP2):
        kind = "bz2"
    elif raw.head == _ZSTD or raw.head[1:] == _ZSTD_SKIPPED:
        kind = "zstd"
    else:
        return raw.read
    import pyarrow as pa

    read: Callable[[int], bytes] = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), kind).read
    return read
