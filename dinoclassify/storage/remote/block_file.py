"""A remote object as a file, read in large blocks: seekable, or from front to back with blocks read ahead."""

import io
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 4 << 20  # bytes of a request

_MOST = 16  # blocks in a single request, however large the read
_AHEAD = 4  # blocks in flight ahead of the reader

# (start, end) -> the future of the bytes from start to end
Fetch: TypeAlias = Callable[[int, int], "Future[bytes]"]


def seekable(fetch: Fetch, size: int) -> BinaryIO:
    """A seekable file of ``size`` bytes."""
    return cast(BinaryIO, io.BufferedReader(_Ranges(fetch, size), BLOCK))


def streamed(fetch: Fetch, size: int) -> BinaryIO:
    """A file of ``size`` bytes to read from front to back; a few blocks are in flight ahead of the reader."""
    return cast(BinaryIO, io.BufferedReader(_Parts(_blocks(fetch, size))))


class _Ranges(io.RawIOBase):
    """A file that makes a request for each read."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch, self._size, self._position = fetch, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise OSError("negative seek position")
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read the next bytes, in a few blocks at most; returns how many."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + min(len(view), _MOST * BLOCK), self._size)
        if self._position >= end:
            return 0
        content = _whole(end - self._position, self._fetch(self._position, end))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


class _Parts(io.RawIOBase):
    """A file made of the bytes of an iterator, none of which are empty."""

    def __init__(self, parts: Generator[bytes, None, None]) -> None:
        self._parts, self._rest = parts, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._parts, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._parts.close()
        super().close()


def _blocks(fetch: Fetch, size: int) -> Generator[bytes, None, None]:
    ranges = ((start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
    requests = ((end - start, fetch(start, end)) for start, end in ranges)
    ahead = deque(islice(requests, _AHEAD))
    try:
        while ahead:
            block = _whole(*ahead.popleft())
            ahead.extend(islice(requests, 1))
            yield block
    finally:
        for _, future in ahead:
            future.cancel()


def _whole(size: int, future: "Future[bytes]") -> bytes:
    content = future.result()
    if len(content) != size:
        raise OSError("it has changed while it was read")
    return content
