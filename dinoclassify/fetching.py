"""Pictures that are not on this machine are read here, many at a time and ahead: no decoder waits for a server."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from dinoclassify.archives import unpack
from dinoclassify.rows import Failure
from dinoclassify.sources import Source, Span
from dinoclassify.stores import is_url, read

IN_FLIGHT = 32  # reads at a time, in each process

_BEAT = 1.0  # seconds between two looks at a read that is waited for, at most

T = TypeVar("T")


class Fetcher:
    """Reads what is not on this machine. One in a process, which makes it after it was forked.

    Args:
        timeout: seconds that a picture may take.
        private: whether web addresses in private networks may be asked.
        beat: called again and again while a picture is waited for, as long as others may still come.
    """

    def __init__(self, *, timeout: float, private: bool, beat: Callable[[], None]) -> None:
        self._timeout = timeout
        self._private = private
        self._beat = beat
        self._begun: deque[Future[Source]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Semaphore(IN_FLIGHT)

    def fetched(self, sources: Sequence[Source], ahead: Sequence[Source]) -> Iterator[Source]:
        """The same sources; those not on this machine have their bytes, or the reason why there are none.

        Those ``ahead`` are begun to be read: of what the next calls are about they come first.
        """
        if not self._begun:
            self._begin(filter(is_elsewhere, sources))
        self._begin(ahead)
        for source in sources:
            yield _unpacked(source, self._wait(self._begun.popleft())) if is_elsewhere(source) else source

    def _begin(self, sources: Iterable[Source]) -> None:
        self._begun.extend(self._run(self._read(source)) for source in sources)

    async def _read(self, source: Source) -> Source:
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    return await read(source, private=self._private)
            except TimeoutError:
                return replace(source, content=Failure("timeout", f"took longer than {self._timeout:g} s to read"))

    def _wait(self, reading: Future[Source]) -> Source:
        while True:
            try:
                return reading.result(min(_BEAT, self._timeout / 4))
            except TimeoutError:
                self._run(asyncio.sleep(0)).result()  # for ever, and without a beat, if the loop hangs
                self._beat()

    def _run(self, work: Coroutine[None, None, T]) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(IN_FLIGHT))  # for stores that know no coroutines
            threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _unpacked(source: Source, raw: Source) -> Source:
    """The picture of the bytes that an archive has of it."""
    if not (isinstance(source.content, Span) and isinstance(raw.content, bytes)):
        return raw
    try:
        return replace(raw, content=unpack(source.content, raw.content))
    except MemoryError:
        return replace(raw, content=Failure("out_of_memory", "not enough memory to unpack it"))


def is_elsewhere(source: Source) -> bool:
    """Whether the bytes of a picture are not on this machine."""
    place = source.content.archive if isinstance(source.content, Span) else source.path
    return (source.content is None or isinstance(source.content, Span)) and is_url(place)
