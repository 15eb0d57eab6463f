"""Reads remote images, many at a time and ahead of decoding, so that no decoder waits for a server."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from dinoclassify.storage.budget import NoRoomError, Reservation, Share
from dinoclassify.storage.elsewhere import IN_FLIGHT, is_elsewhere
from dinoclassify.storage.reader import unpack
from dinoclassify.storage.remote.content import read
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source

_BEAT = 1.0  # seconds between two heartbeats while an image is awaited, at most
_PAUSE = 0.02  # seconds between two checks for room
_MEAN_OVER = 8  # images, about, that the running mean of sizes covers

T = TypeVar("T")


class Fetcher:
    """Reads remote images. A process has one, created after the fork.

    ``timeout`` is in seconds, for one image. ``beat`` is called repeatedly while an image is awaited, as long as the
    event loop runs. ``share`` is the part of the run's memory budget that this process may hold. ``private``: see
    `storage.remote.web`.
    """

    def __init__(self, *, timeout: float, private: bool, beat: Callable[[], None], share: Share) -> None:
        self._timeout = timeout
        self._private = private
        self._beat = beat
        self._share = share
        self._started: deque[tuple[Reservation, Future[Source]]] = deque()
        self._ids = itertools.count()
        self._waiting_for_room: set[int] = set()  # the ids of the images without room
        self._mean_size = 0.0  # bytes of an image, as a running mean
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Semaphore(IN_FLIGHT)

    def fetched(self, sources: Sequence[Source], ahead: Sequence[Source]) -> Iterator[Source]:
        """The same sources; remote ones have their bytes, or the failure to read them.

        Reading of those ``ahead`` begins: they are the first remote sources of the next calls.
        """
        if not self._started:
            self._begin(filter(is_elsewhere, sources))
        self._begin(ahead)
        for source in sources:
            if not is_elsewhere(source):
                yield source
                continue
            room, reading = self._started.popleft()
            room.awaited = True
            try:
                yield _unpacked(source, self._wait(reading))
            finally:  # also if the caller stops early
                # Wait for it: the room must be released before this process can be stopped.
                self._run(_give_back(room)).result()

    def _begin(self, sources: Iterable[Source]) -> None:
        for source in sources:
            room = Reservation(self._share)
            self._started.append((room, self._run(self._read(source, room))))

    async def _read(self, source: Source, room: Reservation) -> Source:
        """Read a source; if its room runs out, wait for more room and start again."""
        image_id = next(self._ids)
        async with self._turn:
            while True:
                await self._find_room(source, room, image_id)
                try:
                    image = await self._read_in_time(source, room)
                    break
                except NoRoomError:
                    room.give_back()
        if isinstance(image.content, bytes):
            room.keep(len(image.content))
            self._mean_size += (len(image.content) - self._mean_size) / _MEAN_OVER
        else:
            room.give_back()
        return image

    async def _find_room(self, source: Source, room: Reservation, image_id: int) -> None:
        """Wait for room. The awaited image may take it, or the first of the others."""
        waiting = self._waiting_for_room
        waiting.add(image_id)
        while not ((room.awaited or image_id == min(waiting)) and room.take(self._expected(source, room))):
            await asyncio.sleep(_PAUSE)
        waiting.remove(image_id)

    def _expected(self, source: Source, room: Reservation) -> int:
        """The size of a source in bytes, estimated before it is read."""
        known = source.signature[0] if source.signature is not None else None
        size = source.content.length if isinstance(source.content, ByteRange) else known
        return min(max(int(self._mean_size) if size is None else size, room.refused), self._share.most)

    async def _read_in_time(self, source: Source, room: Reservation) -> Source:
        try:
            async with asyncio.timeout(self._timeout):
                return await read(source, private=self._private, reserve=room.reserve)
        except TimeoutError:
            return replace(source, content=Failure("timeout", f"took longer than {self._timeout:g} s to read"))

    def _wait(self, reading: Future[Source]) -> Source:
        while True:
            try:
                return reading.result(min(_BEAT, self._timeout / 4))
            except TimeoutError:
                self._run(asyncio.sleep(0)).result()  # if the loop hangs, this blocks and there is no beat
                self._beat()

    def _run(self, work: Coroutine[None, None, T]) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(IN_FLIGHT))  # for stores without coroutines
            threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _give_back(room: Reservation) -> None:
    """Give back room in the thread of the loop, the only one that uses it."""
    room.give_back()


def _unpacked(source: Source, raw: Source) -> Source:
    """The source with its image unpacked, if ``raw`` has the bytes of a member of an archive."""
    if not (isinstance(source.content, ByteRange) and isinstance(raw.content, bytes)):
        return raw
    try:
        return replace(raw, content=unpack(source.content, raw.content))
    except MemoryError:
        return replace(raw, content=Failure("out_of_memory", "not enough memory to unpack it"))
