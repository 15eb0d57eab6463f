"""Images that are not on this machine are read here, many at a time and ahead: no decoder waits for a server."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from dinoclassify.storage.budget import NoRoomError, Room, Share
from dinoclassify.storage.byte_range import unpack
from dinoclassify.storage.remote.object_store import read
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source

IN_FLIGHT = 32  # reads at a time, in each process

_BEAT = 1.0  # seconds between two looks at a read that is waited for, at most
_PAUSE = 0.02  # seconds between two looks whether there is room
_REMEMBERED = 8  # images, about, whose sizes make the usual size

T = TypeVar("T")


class Fetcher:
    """Reads what is not on this machine. One in a process, which makes it after it was forked.

    Args:
        timeout: seconds that an image may take.
        private: whether web addresses in private networks may be asked.
        beat: called again and again while an image is waited for, as long as others may still come.
        share: what this process may hold of the budget of the run.
    """

    def __init__(self, *, timeout: float, private: bool, beat: Callable[[], None], share: Share) -> None:
        self._timeout = timeout
        self._private = private
        self._beat = beat
        self._share = share
        self._begun: deque[tuple[Room, Future[Source]]] = deque()
        self._numbers = itertools.count()
        self._waiting: set[int] = set()  # the numbers of the images for which there is no room
        self._usual = 0.0  # bytes of an image, a mean that forgets
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
            if not is_elsewhere(source):
                yield source
                continue
            room, reading = self._begun.popleft()
            room.awaited = True
            try:
                yield _unpacked(source, self._wait(reading))
            finally:  # also where nobody asks for the next one, and before this process may be told to end
                self._run(_give_back(room)).result()

    def _begin(self, sources: Iterable[Source]) -> None:
        for source in sources:
            room = Room(self._share)
            self._begun.append((room, self._run(self._read(source, room))))

    async def _read(self, source: Source, room: Room) -> Source:
        """Read a source as often as it takes to find room for it: what finds none is given up for the time being."""
        number = next(self._numbers)
        async with self._turn:
            while True:
                await self._find_room(source, room, number)
                try:
                    found = await self._read_in_time(source, room)
                    break
                except NoRoomError:
                    room.give_back()
        if isinstance(found.content, bytes):
            room.keep(len(found.content))
            self._usual += (len(found.content) - self._usual) / _REMEMBERED
        else:
            room.give_back()
        return found

    async def _find_room(self, source: Source, room: Room, number: int) -> None:
        """Wait until there is room: for the image that is waited for, or for the first of all others."""
        self._waiting.add(number)
        while not ((room.awaited or number == min(self._waiting)) and room.take(self._expected(source, room))):
            await asyncio.sleep(_PAUSE)
        self._waiting.remove(number)

    def _expected(self, source: Source, room: Room) -> int:
        """How many bytes a source has, as far as that is known before it is read."""
        known = source.signature[0] if source.signature is not None else None
        size = source.content.length if isinstance(source.content, ByteRange) else known
        return min(max(int(self._usual) if size is None else size, room.refused), self._share.most)

    async def _read_in_time(self, source: Source, room: Room) -> Source:
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
                self._run(asyncio.sleep(0)).result()  # for ever, and without a beat, if the loop hangs
                self._beat()

    def _run(self, work: Coroutine[None, None, T]) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(IN_FLIGHT))  # for stores that know no coroutines
            threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _give_back(room: Room) -> None:
    """In the thread of the loop, which is where all else is done with it."""
    room.give_back()


def _unpacked(source: Source, raw: Source) -> Source:
    """The image of the bytes that an archive has of it."""
    if not (isinstance(source.content, ByteRange) and isinstance(raw.content, bytes)):
        return raw
    try:
        return replace(raw, content=unpack(source.content, raw.content))
    except MemoryError:
        return replace(raw, content=Failure("out_of_memory", "not enough memory to unpack it"))


def is_elsewhere(source: Source) -> bool:
    """Whether the bytes of an image are not on this machine."""
    place = source.content.archive if isinstance(source.content, ByteRange) else source.path
    return (source.content is None or isinstance(source.content, ByteRange)) and is_url(place)
