"""Sources -> batches of pixels, decoded by worker processes.

Lists of `Source` go to the workers round-robin, as they are discovered, and their batches are received in the same
order. Discovery stays lazy: a worker has `PREFETCH` lists at a time, and more only where it reads images ahead that are
not on this machine.
"""

import itertools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Literal

from dinoclassify.decoding.batch import NOT_READY, NOTHING_CAME, Batch
from dinoclassify.decoding.decode import decode
from dinoclassify.decoding.feeds.base import RECEIVE_TIMEOUT, StartFeed
from dinoclassify.decoding.worker import Worker, watchdog
from dinoclassify.errors import UsageError
from dinoclassify.storage.budget import shares
from dinoclassify.system.environment import raise_file_limit
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.source import TIMEOUT, Source

FeedName = Literal["plain", "torch"]  # one module each, see `decoding.feeds`

_FILES = 14  # open for each worker: pipes, and shared memory, of which a mapping is a file too
_SPARE_FILES = 16  # for everything else that a run opens


def load_batches(
    sources: Iterable[Source],
    preprocessing: Preprocessing | OpaqueProcessor,
    *,
    batch_size: int,
    workers: int,
    exact: bool,
    max_pixels: int,
    timeout: float = TIMEOUT,
    private: bool = False,
    live: bool = False,
    feed: FeedName = "plain",
    on_start: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """Decode all sources, in order; the last batch may be short. An error of ``sources`` is raised after their batches.

    The workers read images that are not on this machine ahead. A worker that dies or hangs is replaced, and costs at
    most the image it was decoding; see `decoding.worker`.

    For most arguments see `types.run_options.RunOptions`. If the preprocessing gives images of different sizes, each is
    a batch of its own. If ``live``, sources come over time: a batch may be short where a worker would be idle, and
    `NOTHING_CAME` or `NOT_READY` is yielded while the next batch is not ready. ``on_start`` is called once, when the
    workers have the first sources; if ``live``, perhaps before any has come. Raises UsageError for too few open files,
    WorkerError if workers cannot start, or keep dying.
    """
    if preprocessing.output_size is None:
        batch_size = 1
    _allow_open_files(workers)
    errors: list[Exception] = []
    sources = _until_error(sources, errors)
    to_pixels = partial(decode, preprocessing=preprocessing, exact=exact, max_pixels=max_pixels)
    start_feed = starter_of(feed)
    pool: list[Worker] = []
    with watchdog(pool, timeout):
        pool.extend(
            Worker(to_pixels, start_feed, timeout=timeout, private=private, share=share) for share in shares(workers)
        )
        batches = _live if live else _in_full
        yield from batches(sources, batch_size, pool, on_start)
    if errors:
        raise errors[0]


def starter_of(feed: FeedName) -> StartFeed:
    """The function that starts a process with this feed."""
    if feed == "torch":
        from dinoclassify.decoding.feeds.torch_feed import start as start_with_torch  # which is slow to import

        return start_with_torch
    from dinoclassify.decoding.feeds.plain_feed import start

    return start


def _allow_open_files(workers: int) -> None:
    """Raise the limit of open files if it is too low for the workers; raises UsageError if the system forbids it."""
    needed = len(os.listdir("/dev/fd")) + _FILES * workers + _SPARE_FILES
    if (allowed := raise_file_limit(needed)) < needed:
        raise UsageError(
            f"{workers} workers need {needed} open files of {allowed} allowed: raise ulimit -n or use fewer --workers"
        )


def _until_error(sources: Iterable[Source], errors: list[Exception]) -> Iterator[Source]:
    """End the stream where it fails, and note the error: the sources before it come first."""
    try:
        yield from sources
    except Exception as error:
        errors.append(error)


def _in_full(
    sources: Iterable[Source], size: int, workers: Sequence[Worker], on_start: Callable[[], None]
) -> Iterator[Batch]:
    """Deal full lists round-robin, as long as the workers have room, and receive the batches in the same order."""
    lists = _lists(sources, size)
    ring, pending = itertools.cycle(workers), deque[Worker]()
    worker = next(ring)
    has_begun = False
    while True:
        while worker.has_room and (batch := next(lists, None)) is not None:
            worker.send(batch)
            pending.append(worker)
            worker = next(ring)
        if not pending:
            return
        if not has_begun:
            has_begun = True
            on_start()
        yield pending.popleft().receive()


def _live(
    sources: Iterable[Source], size: int, workers: Sequence[Worker], on_start: Callable[[], None]
) -> Iterator[Batch]:
    """As `_in_full`, but an idle worker gets whatever has arrived; a busy worker waits for a full list."""
    queued: queue.Queue[Source] = queue.Queue(maxsize=2 * size)
    new_input, ended, closed = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        for source in sources:
            while not _put(queued, source):
                if closed.is_set():
                    return
            new_input.set()
        ended.set()
        new_input.set()

    threading.Thread(target=read, name="read list", daemon=True).start()
    ring, pending = itertools.cycle(workers), deque[Worker]()
    worker = next(ring)
    has_begun = False
    try:
        while True:
            new_input.clear()
            is_last = ended.is_set()
            while worker.has_room and (count := queued.qsize()) >= (1 if worker.is_idle else size):
                worker.send([queued.get() for _ in range(min(count, size))])
                pending.append(worker)
                worker = next(ring)
            if not has_begun:
                has_begun = True
                on_start()
            if pending:
                batch = pending[0].receive_soon()
                if batch is not None:
                    pending.popleft()
                yield batch or NOT_READY
            elif is_last:
                return
            else:
                yield NOTHING_CAME
                new_input.wait(RECEIVE_TIMEOUT)
    finally:
        closed.set()


def _put(queued: "queue.Queue[Source]", source: Source) -> bool:
    """Put a source into the queue; False if there is no room within `RECEIVE_TIMEOUT` seconds."""
    try:
        queued.put(source, timeout=RECEIVE_TIMEOUT)
    except queue.Full:
        return False
    return True


def _lists(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    """Lists of ``size`` sources; the last may be shorter."""
    iterator = iter(sources)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
