"""Sources -> batches of pixels, decoded by worker processes.

A PyTorch DataLoader whose batch sampler is the discovered stream itself: it hands lists of `Source` to the workers,
and the dataset holds no paths. So discovery stays lazy, batches come back in order, and no more than
`PREFETCH` batches a worker are ever under way.
"""

import itertools
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinoclassify.decode import Decoded, decode, init_process
from dinoclassify.discover import Source
from dinoclassify.preprocessing import AsIs, Preprocessing

PREFETCH = 2
LINGER = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of inputs in order, and the pixels of those that decoded.

    ``inputs`` is what became of each, without its pixels; ``pixels`` is N x 3 x H x W, uint8 or an `AsIs` processor's
    float32, with one row for each input that has neither a failure nor a JPEG left to decode, in the same order. The
    seconds are those that a worker has spent on it.
    """

    inputs: list[Decoded]
    pixels: Tensor
    read_seconds: float
    decode_seconds: float

    def pin_memory(self) -> "Batch":
        """The same with pixels in pinned memory, from which CUDA copies while it computes. For the DataLoader."""
        return replace(self, pixels=self.pixels.pin_memory())


class _Pictures(Dataset[Batch]):
    """Decodes the lists of sources that it is asked for."""

    def __init__(self, decode: Callable[[Source], Decoded]) -> None:
        self._decode = decode

    def __getitems__(self, sources: list[Source]) -> Batch:
        started = perf_counter()
        decoded = [self._decode(source) for source in sources]
        pixels = [item.pixels for item in decoded if item.pixels is not None]
        stacked = np.empty((0, 3, 0, 0), np.uint8)
        if pixels:  # channel by channel in memory: runtimes would else copy them to that order
            stacked = np.stack(pixels, out=np.empty((len(pixels), *pixels[0].shape), pixels[0].dtype))
        reading = sum(item.read_seconds for item in decoded)
        decoding = perf_counter() - started - reading
        return Batch([replace(item, pixels=None) for item in decoded], torch.from_numpy(stacked), reading, decoding)


def load_batches(
    sources: Iterable[Source],
    preprocessing: Preprocessing | AsIs,
    *,
    batch_size: int,
    workers: int,
    exact: bool,
    max_pixels: int,
    leave_jpegs: bool = False,
    live: bool = False,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Decode all sources, in order; the last batch may be short. An error of ``sources`` is raised after their batches.

    Where pictures come out at sizes of their own, each is a batch by itself, whatever ``batch_size``. With ``live`` no
    picture waits for others that are still to come: batches may be short, or empty, at any time. With ``pinned`` pixels
    are in memory that CUDA can copy from by itself. With ``leave_jpegs`` most JPEGs come as they are, for
    `dinoclassify.nvjpeg`.
    """
    if preprocessing.output_size is None:
        batch_size = 1
    errors: list[Exception] = []
    sources = _until_error(sources, errors)
    yield from DataLoader(
        _Pictures(
            partial(decode, preprocessing=preprocessing, exact=exact, max_pixels=max_pixels, leave_jpegs=leave_jpegs)
        ),
        batch_sampler=_batched_live(sources, batch_size) if live else _batched(sources, batch_size),
        collate_fn=_as_is,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        worker_init_fn=_init_worker,
        pin_memory=pinned,
    )
    if errors:
        raise errors[0]


def available_cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _until_error(sources: Iterable[Source], errors: list[Exception]) -> Iterator[Source]:
    """End the stream where it fails: what came before is answered first, and DataLoader is left in peace."""
    try:
        yield from sources
    except Exception as error:
        errors.append(error)


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


def _as_is(batch: Any) -> Any:  # DataLoader takes it for a function of a list; `__getitems__` has made the batch
    return batch


def _init_worker(_: int) -> None:
    # Signals often reach the whole process group. The main process alone answers them, and ends its workers; they
    # also end by themselves when it is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    init_process()
