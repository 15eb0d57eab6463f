"""A source -> its bytes, from a file, from within an archive, or from memory."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BufferedReader, BytesIO, FileIO
from time import perf_counter
from typing import TYPE_CHECKING

from dinoclassify.storage.remote.object_store import signatures
from dinoclassify.storage.remote.url import is_url
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import ErrorCode, Failure
from dinoclassify.types.source import ByteRange, Signature, Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ARCHIVES = 4  # that a process keeps open
_ASKED = 256  # objects for which a store is asked at a time


class RefusedError(Exception):
    """Ends the reading or decoding of an image with a code and a reason."""

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
    """An image in a file of its own, which is read as its decoder asks for it."""

    raw: _TimedFile

    @property
    def seconds(self) -> float:
        """How long it took the disk to give what was asked of it."""
        return self.raw.seconds


class ImageBytes(BytesIO):
    """An image that is in memory; ``seconds`` is how long it took to get it there."""

    def __init__(self, content: bytes, seconds: float = 0.0) -> None:
        super().__init__(content)
        self.seconds = seconds


def open_image(source: Source) -> tuple[LocalImage | ImageBytes, Signature]:
    """The bytes of an image, and what its size and time are.

    Raises:
        RefusedError: there are none, for a reason that is known.
        OSError, ValueError: they cannot be read.
    """
    content = source.content
    if isinstance(content, Failure):
        raise RefusedError(content.code, content.message)
    if isinstance(content, ByteRange):
        return _open_member(content, source.signature)
    if isinstance(content, bytes):
        return ImageBytes(content), source.signature or (None, None)
    file = LocalImage(_open_regular(source.path))
    status = os.fstat(file.fileno())
    return file, (status.st_size, status.st_mtime_ns)


def with_signatures(sources: Iterable[Source], *, private: bool = False) -> Iterator[Source]:
    """The same sources; objects that were not found in a listing have been asked for their signatures, side by side.

    ``private``: see `storage.remote.web`.
    """
    some: list[Source] = []
    for source in sources:
        some.append(source)
        if len(some) == _ASKED or isinstance(source.content, bytes):  # of which not many are kept waiting
            yield from _signed(some, private=private)
            some = []
    yield from _signed(some, private=private)


def _signed(some: Sequence[Source], *, private: bool) -> Iterator[Source]:
    unsigned = [source for source in some if source.signature is None and is_url(source.path)]
    found = dict(zip(unsigned, signatures(unsigned, private=private), strict=True))
    return (replace(source, signature=found[source]) if source in found else source for source in some)


def signature_of(source: Source, *, private: bool = False) -> Signature:
    """The signature of a source; None where no file or object has its name. ``private``: see `with_signatures`."""
    if source.signature is not None:
        return source.signature
    return signatures([source], private=private)[0] if is_url(source.path) else file_signature(source.path)


def _open_member(span: ByteRange, known: Signature | None) -> tuple[ImageBytes, Signature]:
    from dinoclassify.storage.byte_range import unpack

    started = perf_counter()
    archive = _archive(span.archive)
    if known is not None and os.fstat(archive.fileno()).st_mtime_ns != known[1]:
        raise RefusedError("unreadable", "its archive has changed since the run began")
    raw = os.pread(archive.fileno(), span.length, span.offset)
    seconds = perf_counter() - started
    content = unpack(span, raw)
    if isinstance(content, Failure):
        raise RefusedError(content.code, content.message)
    return ImageBytes(content, seconds), known or (None, None)


@lru_cache(_ARCHIVES)
def _archive(path: str) -> FileIO:
    return FileIO(path)


def _open_regular(path: str) -> _TimedFile:
    # Not to block on a FIFO, which opens at once for a reader that does not wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise RefusedError("unreadable", "is a folder")
        if not stat.S_ISREG(mode):
            raise RefusedError("unreadable", "is not a regular file")
        return _TimedFile(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
