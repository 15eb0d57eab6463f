"""What runs in a decoding process, and how it reports its progress."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from dinoclassify.decoding.batch import DecodedImage, Pixels
from dinoclassify.decoding.decode import init_process
from dinoclassify.decoding.plan import PREFETCH
from dinoclassify.decoding.shared_memory import Facts, ResultBuffer, ResultHeader
from dinoclassify.storage.budget import Share
from dinoclassify.storage.elsewhere import is_elsewhere
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

if TYPE_CHECKING:
    from dinoclassify.storage.fetcher import Fetcher

MAIN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # only the main process answers these
BETWEEN = -1  # position while no image is being decoded

_NO_PIXELS: Pixels = np.empty((0, 3, 0, 0), np.uint8)
_NO_MEMORY = Failure("out_of_memory", "not enough memory for its batch")
_PAUSE = 0.005  # seconds between checks that the main process has received a result
_PARENT = 5.0  # seconds between checks that the main process is alive
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class Progress(ctypes.Structure):
    """What a process is doing, in memory that outlives it."""

    _fields_ = (
        ("tasks", ctypes.c_int64),  # started so far
        ("received", ctypes.c_int64),  # results that the main process has received
        ("position", ctypes.c_int64),  # of the current image in the last of them, or `BETWEEN`
        ("step", ctypes.c_int64),  # increases with every change
        ("size", ctypes.c_int64),  # of the file, -1 if unknown
        ("mtime_ns", ctypes.c_int64),  # of the file, 0 if unknown
    )


@dataclass(frozen=True, slots=True)
class Result:
    """The message of a process that has finished a list."""

    header: ResultHeader
    read_seconds: float
    decode_seconds: float


@dataclass(eq=False)
class DecodeDataset:
    """Decodes lists of sources, in the process. Each feed drives it: see `decoding.feeds`.

    ``lists`` brings the lists, in order; whatever index a DataLoader asks for, it gets the next one. ``results``
    receives the results, and ``progress`` notes which image is being decoded. An image may take ``timeout`` seconds to
    read. ``private``: see `storage.remote.web`; ``share``: see `Fetcher`.
    """

    decode: Callable[[Source], DecodedImage]
    lists: "Connection[object, list[Source]]"
    results: ResultBuffer
    progress: Progress
    timeout: float
    private: bool
    share: Share
    _fetcher: "Fetcher | None" = field(default=None, init=False)
    _read_ahead_lists: deque[list[Source]] = field(default_factory=deque, init=False)  # their images are being read

    def __getitems__(self, _: Sequence[int]) -> Result:
        while self.progress.tasks - self.progress.received > PREFETCH:  # each slot of `results` holds a result
            time.sleep(_PAUSE)
        sources = self._read_ahead_lists.popleft() if self._read_ahead_lists else self._next_list()
        ahead = self._read_ahead() if any(map(is_elsewhere, sources)) else []
        turn = self.progress.tasks
        self.progress.tasks += 1
        started = perf_counter()
        written = self._decode_list(turn, sources, self._fetched(sources, ahead))
        reading = sum(seconds for *_, seconds in written.facts)
        return Result(self._finish(turn, written), reading, perf_counter() - started - reading)

    def _fetched(self, sources: Sequence[Source], ahead: Sequence[Source]) -> Iterator[Source]:
        """The same sources, remote ones with their bytes; reading of those ``ahead`` begins."""
        if self._fetcher is None:
            if not any(map(is_elsewhere, sources)):
                return iter(sources)
            from dinoclassify.storage.fetcher import Fetcher  # which is slow to import

            self._fetcher = Fetcher(timeout=self.timeout, private=self.private, beat=self._beat, share=self.share)
        return self._fetcher.fetched(sources, ahead)

    def _decode_list(self, turn: int, sources: Sequence[Source], fetched: Iterator[Source]) -> "_Written":
        """Decode a list; the pixels of each image go where the result number ``turn`` has room for them."""
        rows, count = _NO_PIXELS, 0
        facts: list[Facts] = []
        for position, source in enumerate(sources):
            item = self._decode_next(position, source, fetched)
            failure = item.failure
            if item.pixels is not None:
                try:
                    if not count:
                        rows = self.results.rows(turn, len(sources), item.pixels)
                    rows[count] = item.pixels
                    count += 1
                except (MemoryError, OSError):
                    failure = _NO_MEMORY
            facts.append((failure, item.size, item.mtime_ns, item.read_seconds))
        self._note(BETWEEN)
        return _Written(rows[:count], facts)

    def _finish(self, turn: int, written: "_Written") -> ResultHeader:
        try:
            return self.results.finish(turn, written.pixels, written.facts)
        except (MemoryError, OSError):
            failed: list[Facts] = [(fact[0] or _NO_MEMORY, *fact[1:]) for fact in written.facts]
            return self.results.finish(turn, _NO_PIXELS, failed)

    def _next_list(self) -> list[Source]:
        try:
            return self.lists.recv()
        except (EOFError, MemoryError):  # the sender is gone, or another process must try this list
            os._exit(1)

    def _read_ahead(self) -> list[Source]:
        """Receive the lists that have come; returns those of their images that are not on this machine."""
        known = len(self._read_ahead_lists)
        while self.lists.poll():
            self._read_ahead_lists.append(self._next_list())
        new = islice(self._read_ahead_lists, known, None)
        return [source for sources in new for source in sources if is_elsewhere(source)]

    def _decode_next(self, position: int, source: Source, fetched: Iterator[Source]) -> DecodedImage:
        self.progress.size, self.progress.mtime_ns = -1, 0
        self._note(position)
        size, mtime_ns = source.signature or file_signature(source.path)
        self.progress.size, self.progress.mtime_ns = -1 if size is None else size, mtime_ns or 0
        started = perf_counter()
        complete = next(fetched)
        waited = perf_counter() - started
        decoded = self.decode(complete)
        return replace(decoded, read_seconds=decoded.read_seconds + waited)

    def _note(self, position: int) -> None:
        self.progress.position = position
        self._beat()

    def _beat(self) -> None:
        self.progress.step += 1


@dataclass(frozen=True, slots=True)
class _Written:
    """The pixels of a list that are in the result buffer, and the facts of all its images."""

    pixels: Pixels
    facts: list[Facts]


def init_worker(*, end_with_thread: bool = True) -> None:
    """Prepare the process; if ``end_with_thread``, it ends at the moment when the thread that started it ends."""
    gc.freeze()  # this process has a copy of the main one's garbage; collecting it might end other processes
    # Signals often reach the whole process group. Only the main process answers them, and ends its workers. If it is
    # killed, they end by themselves: at once if ``end_with_thread``, else within seconds.
    for number in MAIN_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, MAIN_SIGNALS)  # `Worker` has blocked them so far
    if end_with_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _end_with_parent()  # which may have died before this
    threading.Thread(target=_watch_parent, name="watch parent", daemon=True).start()
    init_process()


def _watch_parent() -> None:
    """End this process within seconds of the main one, even while it waits for a silent server."""
    while True:
        time.sleep(_PARENT)
        _end_with_parent()


def _end_with_parent() -> None:
    """End this process, and free the locks it holds, if the main process has died.

    Asks the system: the pipe that multiprocessing checks is held open by other decoding processes, too.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    has_server = isinstance(multiprocessing.current_process(), ForkServerProcess)  # which is this process's parent
    if not parent.is_alive() or (os.getppid() != parent.pid and not has_server):
        os._exit(1)
