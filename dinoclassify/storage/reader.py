"""A source -> its bytes, from a local file, from an archive, or from memory."""

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BufferedReader, BytesIO, FileIO
from time import perf_counter
from typing import TYPE_CHECKING

from dinoclassify.messages import first_line
from dinoclassify.storage.remote.object_store import signatures
from dinoclassify.storage.remote.url import is_url
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import ErrorCode, Failure
from dinoclassify.types.source import ByteRange, Signature, Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TRUNCATED_ARCHIVE = Failure("truncated", "the archive ends too early: it has been cut short")
MEMBER_MAGIC = b"PK\3\4"  # starts each member of a zip
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip: magic, lengths of its name and of its extra fields

_OPEN_ARCHIVES = 4  # archives that a process keeps open
_SMALL = 1 << 20  # bytes: a file up to this size is read at once. For larger ones that saves nothing that counts
_STAT_BATCH = 256  # objects to ask a store about at a time


class RefusedError(Exception):
    """An image is not read or decoded, for a known reason."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


class _TimedFile(FileIO):
    """A file that counts the seconds its reads take."""

    seconds = 0.0

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into the buffer."""
        started = perf_counter()
        count = super().readinto(buffer)
        self.seconds += perf_counter() - started
        return count

    def readall(self) -> bytes:
        """Read the rest."""
        started = perf_counter()
        content = super().readall()
        self.seconds += perf_counter() - started
        return content


class LocalImage(BufferedReader):
    """An image in a file of its own, read as its decoder asks for bytes."""

    raw: _TimedFile

    @property
    def seconds(self) -> float:
        """The seconds that reading took so far."""
        return self.raw.seconds


class ImageBytes(BytesIO):
    """An image in memory; ``seconds`` is how long reading it took."""

    def __init__(self, content: bytes, seconds: float = 0.0) -> None:
        super().__init__(content)
        self.seconds = seconds


def open_image(source: Source) -> tuple[LocalImage | ImageBytes, Signature]:
    """The image as an open file, and its signature; raises RefusedError for a known reason, OSError or ValueError."""
    content = source.content
    if isinstance(content, Failure):
        raise RefusedError(content.code, content.message)
    if isinstance(content, ByteRange):
        return _open_member(content, source.signature)
    if isinstance(content, bytes):
        return ImageBytes(content), source.signature or (None, None)
    return _open_file(source.path)


def unpack(member: ByteRange, raw: bytes) -> bytes | Failure:
    """The encoded image of a member, from the ``raw`` bytes of its range; a failure if they are damaged."""
    if len(raw) < member.length:
        return TRUNCATED_ARCHIVE
    if member.packing == "plain":
        return raw
    magic, name_length, extra_length = LOCAL_HEADER.unpack_from(raw)
    if magic != MEMBER_MAGIC:
        return Failure("decode_error", "its header in the archive is damaged")
    packed = memoryview(raw)[LOCAL_HEADER.size + name_length + extra_length :]
    try:
        content = _inflate(packed, member.size) if member.packing == "deflated" else bytes(packed[: member.size])
    except zlib.error as error:
        return Failure("decode_error", f"its data in the archive are damaged: {first_line(error)}")
    if len(content) > member.size:
        return Failure("too_large", f"is larger than the {member.size:,} bytes that its archive says")
    if len(content) < member.size or zlib.crc32(content) != member.crc:
        return Failure("decode_error", "its data in the archive are damaged: wrong size or checksum")
    return content


def with_signatures(sources: Iterable[Source], *, private: bool = False) -> Iterator[Source]:
    """The same sources, with signatures for remote objects that lack one; stores are asked concurrently."""
    batch: list[Source] = []
    for source in sources:
        batch.append(source)
        if len(batch) == _STAT_BATCH or isinstance(source.content, bytes):  # not to hold the bytes of many
            yield from _signed(batch, private=private)
            batch = []
    yield from _signed(batch, private=private)


def _signed(batch: Sequence[Source], *, private: bool) -> Iterator[Source]:
    unsigned = [source for source in batch if source.signature is None and is_url(source.path)]
    known = dict(zip(unsigned, signatures(unsigned, private=private), strict=True))
    return (replace(source, signature=known[source]) if source in known else source for source in batch)


def signature_of(source: Source, *, private: bool = False) -> Signature:
    """The signature of a source; (None, None) if it does not exist or cannot be asked for.

    ``private``: see `storage.remote.web`.
    """
    if source.signature is not None:
        return source.signature
    return signatures([source], private=private)[0] if is_url(source.path) else file_signature(source.path)


def _open_member(member: ByteRange, known: Signature | None) -> tuple[ImageBytes, Signature]:
    started = perf_counter()
    archive = _archive(member.archive)
    if known is not None and os.fstat(archive.fileno()).st_mtime_ns != known[1]:
        raise RefusedError("unreadable", "its archive has changed since the run began")
    raw = os.pread(archive.fileno(), member.length, member.offset)
    seconds = perf_counter() - started
    content = unpack(member, raw)
    if isinstance(content, Failure):
        raise RefusedError(content.code, content.message)
    return ImageBytes(content, seconds), known or (None, None)


@lru_cache(_OPEN_ARCHIVES)
def _archive(path: str) -> FileIO:
    return FileIO(path)


def _open_file(path: str) -> tuple[LocalImage | ImageBytes, Signature]:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status.st_mode)
        whole = _read_small(descriptor, status.st_size)
        image = LocalImage(_TimedFile(descriptor)) if whole is None else whole
    except BaseException:
        os.close(descriptor)
        raise
    if whole is not None:
        os.close(descriptor)
    return image, (status.st_size, status.st_mtime_ns)


def _refuse_irregular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise RefusedError("unreadable", "is a folder")
    if not stat.S_ISREG(mode):
        raise RefusedError("unreadable", "is not a regular file")


def _read_small(descriptor: int, size: int) -> ImageBytes | None:
    """A file of ``size`` bytes in memory, by one system call; None if it is large, or has another size by now."""
    if size > _SMALL:
        return None
    started = perf_counter()
    content = os.read(descriptor, size + 1)
    if len(content) == size:
        return ImageBytes(content, perf_counter() - started)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return None


def _inflate(packed: memoryview, size: int) -> bytes:
    """The inflated bytes; at most one more than ``size``, which shows that there are too many."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
