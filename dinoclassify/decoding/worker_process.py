"""What runs in a process that decodes, and what it tells of itself."""

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
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from time import perf_counter
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dinoclassify.decoding.batch import DecodedImage
from dinoclassify.decoding.decode import init_process
from dinoclassify.decoding.shared_memory import ResultBuffer, ResultHeader
from dinoclassify.storage.budget import Share
from dinoclassify.storage.fetcher import Fetcher, is_elsewhere
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

MAIN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # which the main process alone answers
BETWEEN = -1  # the position of a process that is not decoding

_PARENT = 5.0  # seconds between two looks at the main process
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class Progress(ctypes.Structure):
    """Where a process is; in memory that outlives it."""

    _fields_ = (
        ("tasks", ctypes.c_int64),  # begun so far
        ("position", ctypes.c_int64),  # in the last of them; `BETWEEN` when it is not decoding
        ("step", ctypes.c_int64),  # counts all changes
        ("size", ctypes.c_int64),  # of the file, -1 where that could not be found out
        ("mtime_ns", ctypes.c_int64),  # when it was changed, 0 where nobody knows
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What a process says when it has done a task."""

    written: ResultHeader
    read_seconds: float
    decode_seconds: float


class DecodeDataset(Dataset[Result]):
    """Decodes the lists of sources that it is asked for. Lives in the process.

    Args:
        decode: what is done with each source.
        lists: the lists of sources to decode, in order; what a DataLoader asks for is the next one.
        slots: where results are written.
        progress: what is told of them meanwhile.
        timeout: seconds that an image may take to read.
        private: see `storage.remote.web`.
        share: see `Fetcher`.
    """

    def __init__(
        self,
        decode: Callable[[Source], DecodedImage],
        lists: "Connection[object, list[Source]]",
        slots: ResultBuffer,
        progress: Progress,
        *,
        timeout: float,
        private: bool,
        share: Share,
    ) -> None:
        self._decode = decode
        self._lists = lists
        self._slots = slots
        self._progress = progress
        self._timeout = timeout
        self._private = private
        self._share = share
        self._fetcher: Fetcher | None = None
        self._coming: deque[list[Source]] = deque()  # lists whose images are being read

    def __getitems__(self, _: Sequence[int]) -> Result:
        sources = self._coming.popleft() if self._coming else self._next_list()
        ahead = self._read_ahead() if any(map(is_elsewhere, sources)) else []
        turn = self._progress.tasks
        self._progress.tasks += 1
        started = perf_counter()
        if self._fetcher is None:
            self._fetcher = Fetcher(timeout=self._timeout, private=self._private, beat=self._beat, share=self._share)
        fetched = self._fetcher.fetched(sources, ahead)
        decoded = [self._decode_next(position, source, fetched) for position, source in enumerate(sources)]
        self._note(BETWEEN)
        reading = sum(item.read_seconds for item in decoded)
        try:
            written = self._write(turn, decoded)
        except (MemoryError, OSError):
            failure = Failure("out_of_memory", "not enough memory for its batch")
            written = self._write(turn, [replace(item, pixels=None, failure=failure) for item in decoded])
        return Result(written, reading, perf_counter() - started - reading)

    def _next_list(self) -> list[Source]:
        try:
            return self._lists.recv()
        except (EOFError, MemoryError):  # nobody, or a list for another process to try
            os._exit(1)

    def _read_ahead(self) -> list[Source]:
        """Those images of the lists that have come meanwhile which are not on this machine."""
        known = len(self._coming)
        while self._lists.poll():
            self._coming.append(self._next_list())
        return [source for sources in islice(self._coming, known, None) for source in sources if is_elsewhere(source)]

    def _decode_next(self, position: int, source: Source, fetched: Iterator[Source]) -> DecodedImage:
        self._progress.size, self._progress.mtime_ns = -1, 0
        self._note(position)
        size, mtime_ns = source.signature or file_signature(source.path)
        self._progress.size, self._progress.mtime_ns = -1 if size is None else size, mtime_ns or 0
        started = perf_counter()
        whole = next(fetched)
        waited = perf_counter() - started
        decoded = self._decode(whole)
        return replace(decoded, source=source.without_bytes(), read_seconds=decoded.read_seconds + waited)

    def _note(self, position: int) -> None:
        self._progress.position = position
        self._beat()

    def _beat(self) -> None:
        self._progress.step += 1

    def _write(self, turn: int, decoded: Sequence[DecodedImage]) -> ResultHeader:
        pixels = [item.pixels for item in decoded if item.pixels is not None]
        stacked = np.empty((0, 3, 0, 0), np.uint8)
        if pixels:  # channel by channel in memory: runtimes would else copy them to that order
            stacked = np.stack(pixels, out=np.empty((len(pixels), *pixels[0].shape), pixels[0].dtype))
        return self._slots.write(turn, stacked, [replace(item, pixels=None) for item in decoded])


def as_is(result: Any) -> Any:  # DataLoader takes it for a function of a list
    """What `DecodeDataset` has made, which needs no collating."""
    return result


def init_worker(_: int, *, tied: bool = True) -> None:
    """Make the process ready.

    Args:
        tied: end it with the thread that has started it, at the very moment.
    """
    gc.freeze()  # garbage of the main process, of which this one has a copy, may hold processes that it would end
    # Signals often reach the whole process group. The main process alone answers them, and ends its workers. If it is
    # killed, they end by themselves: at once if they are tied, else in some seconds.
    for number in MAIN_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, MAIN_SIGNALS)  # `Worker` has blocked them until now
    if tied and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _end_with_parent()  # it may have died before
    threading.Thread(target=_watch_parent, name="watch parent", daemon=True).start()
    init_process()


def _watch_parent() -> None:
    """End this process within seconds of the main process, also while it waits for a silent server."""
    while True:
        time.sleep(_PARENT)
        _end_with_parent()


def _end_with_parent() -> None:
    """End this process, and with it the locks it holds, if the main process has died.

    The system is asked: what multiprocessing looks at is held open by other processes that decode, too.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    has_server = isinstance(multiprocessing.current_process(), ForkServerProcess)  # which is its parent
    if not parent.is_alive() or (os.getppid() != parent.pid and not has_server):
        os._exit(1)
