"""Sources -> batches of pixels, decoded by worker processes.

The discovered stream is the batch sampler of their DataLoaders: it hands out lists of `Source`, and their dataset holds
no paths. So discovery stays lazy, batches come back in order, and no more than `PREFETCH` batches a worker are ever
under way.
"""

import itertools
import os
import queue
import resource
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

from dinoclassify.budget import shares
from dinoclassify.decode import decode
from dinoclassify.errors import UsageError
from dinoclassify.preprocessing import AsIs, Preprocessing
from dinoclassify.sources import TIMEOUT, Source
from dinoclassify.workers import Batch, Worker, looked_after

LINGER = 0.1  # seconds

_FILES = 9  # held open for each worker: pipes, and memory that is shared
_SPARE_FILES = 16  # for all else that a run opens


def load_batches(
    sources: Iterable[Source],
    preprocessing: Preprocessing | AsIs,
    *,
    batch_size: int,
    workers: int,
    exact: bool,
    max_pixels: int,
    timeout: float = TIMEOUT,
    private: bool = False,
    live: bool = False,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Decode all sources, in order; the last batch may be short. An error of ``sources`` is raised after their batches.

    Pictures that are not on this machine are read in the workers, ahead; ``private``: see `dinoclassify.web`.
    A worker that dies or hangs is replaced, and costs at most the picture it was at; see `dinoclassify.workers`.

    Where pictures come out at sizes of their own, each is a batch by itself, whatever ``batch_size``. With ``live`` no
    picture waits for others that are still to come: batches may be short, or empty, at any time. With ``pinned`` pixels
    are in memory that CUDA can copy from by itself.

    Raises:
        UsageError: so many workers need more open files than the system allows.
        WorkerError: workers cannot be started, or keep dying.
    """
    if preprocessing.output_size is None:
        batch_size = 1
    _allow_open_files(workers)
    errors: list[Exception] = []
    sources = _until_error(sources, errors)
    batches = _batched_live(sources, batch_size) if live else _batched(sources, batch_size)
    turns: deque[int] = deque()  # which worker has the next batch, and the next
    to_pixels = partial(decode, preprocessing=preprocessing, exact=exact, max_pixels=max_pixels)
    team: list[Worker] = []
    with looked_after(team, timeout):
        team.extend(
            Worker(to_pixels, hand, timeout=timeout, private=private, share=share, ahead=not live, pinned=pinned)
            for hand, share in zip(_dealt(batches, workers, turns), shares(workers), strict=True)
        )
        while turns:
            yield team[turns.popleft()].receive()
    if errors:
        raise errors[0]


def _allow_open_files(workers: int) -> None:
    """Raise the limit of open files, if it must be and can be, for as many workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/dev/fd")) + _FILES * workers + _SPARE_FILES
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        raise UsageError(
            f"{workers} workers need {needed} open files of {hard} allowed: raise ulimit -n or use fewer --workers"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _until_error(sources: Iterable[Source], errors: list[Exception]) -> Iterator[Source]:
    """End the stream where it fails: what came before is answered first, and DataLoader is left in peace."""
    try:
        yield from sources
    except Exception as error:
        errors.append(error)


def _dealt(batches: Iterator[list[Source]], workers: int, turns: deque[int]) -> list[Iterator[list[Source]]]:
    """What each worker is to do; ``turns`` is told who has the next batch.

    They get one in turn, however many each asks for: else they would wait for each other.
    """
    hands: list[deque[list[Source]]] = [deque() for _ in range(workers)]
    numbers = itertools.cycle(range(workers))

    def share(hand: deque[list[Source]]) -> Iterator[list[Source]]:
        while True:
            while not hand:
                batch = next(batches, None)
                if batch is None:
                    return
                turns.append(next(numbers))
                hands[turns[-1]].append(batch)
            yield hand.popleft()

    return list(map(share, hands))


def _batched(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    iterator = iter(sources)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _batched_live(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    """Lists of up to ``size`` sources; a shorter one, or an empty, when none has come for `LINGER` seconds.

    The DataLoader asks for lists before it gives batches back, so that it must not be kept waiting.
    """
    arrived: queue.Queue[Source | None] = queue.Queue(maxsize=size)

    def read() -> None:
        for source in sources:
            arrived.put(source)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        batch: list[Source] = []
        with suppress(queue.Empty):
            while len(batch) < size:
                item = arrived.get(timeout=LINGER)
                if item is None:
                    yield batch
                    return
                batch.append(item)
        yield batch
