"""Files of which each part has to be asked for, as those in object stores: asked for in blocks, or blocks ahead."""

import io
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 4 << 20  # bytes that are asked for at a time

_MOST = 16  # blocks in a single answer, however much is wanted at once
_AHEAD = 4  # blocks in flight ahead of whoever reads from front to back

# (start, end) -> the bytes from there to there, when they come
Fetch: TypeAlias = Callable[[int, int], "Future[bytes]"]


def seekable(fetch: Fetch, size: int) -> BinaryIO:
    """A file of ``size`` bytes in which one may seek."""
    return cast(BinaryIO, io.BufferedReader(_Ranges(fetch, size), BLOCK))  # which it is, if not by type


def streamed(fetch: Fetch, size: int) -> BinaryIO:
    """A file of ``size`` bytes that is read from front to back; some blocks are in flight ahead of the reader."""
    return cast(BinaryIO, io.BufferedReader(_Parts(_blocks(fetch, size))))


class _Ranges(io.RawIOBase):
    """A file of which each read is asked for."""

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
        view = memoryview(buffer).cast("B")
        end = min(self._position + min(len(view), _MOST * BLOCK), self._size)
        if self._position >= end:
            return 0
        content = _whole(end - self._position, self._fetch(self._position, end))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


class _Parts(io.RawIOBase):
    """A file that is made of parts as they come, none of which is empty."""

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
    spans = ((start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
    asked = ((end - start, fetch(start, end)) for start, end in spans)
    ahead = deque(islice(asked, _AHEAD))
    try:
        while ahead:
            block = _whole(*ahead.popleft())
            ahead.extend(islice(asked, 1))
            yield block
    finally:
        for _, coming in ahead:
            coming.cancel()


def _whole(size: int, coming: "Future[bytes]") -> bytes:
    content = coming.result()
    if len(content) != size:
        raise OSError("it has changed while it was read")
    return content
