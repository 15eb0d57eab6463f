"""Memory in which a worker leaves its results, which outlive it.

It consists of files without a name, in memory where the system supports that, mapped into both processes. So it needs
no room in /dev/shm, nothing remains of it when both processes are gone, and a result is whole once its header has
arrived.
"""

import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

import numpy as np

from dinoclassify.decoding.batch import Pixels
from dinoclassify.types.prediction import Failure

# What a process found out about an image: its failure, the size and mtime_ns of its file, the seconds it was read.
Facts = tuple[Failure | None, int | None, int | None, float]

_SHRINK = 4  # a file that is so many times as large as the result in it gives memory back
_FACTS = 512  # bytes for the facts of an image; more are made room for


@dataclass(frozen=True, slots=True)
class ResultHeader:
    """The message that a result is complete, with its sizes: so short that a pipe takes it whole or not at all."""

    shape: tuple[int, ...]
    dtype: str
    facts: int  # bytes


class ResultBuffer:
    """Slots for ``count`` results at a time, used in turn: pixels, then the pickled facts of each image."""

    def __init__(self, count: int) -> None:
        self._descriptors = [_nameless_file() for _ in range(count)]
        self._mapped: list[mmap.mmap | None] = [None] * count

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __getstate__(self) -> list[Any]:  # for a spawned process; the type of a DupFd is not public
        return [reduction.DupFd(descriptor) for descriptor in self._descriptors]

    def __setstate__(self, duplicates: list[Any]) -> None:
        self._descriptors = [duplicate.detach() for duplicate in duplicates]
        self._mapped = [None] * len(duplicates)

    def rows(self, turn: int, count: int, like: Pixels) -> Pixels:
        """Room for the pixels of the result number ``turn``, ``count`` x the shape of ``like``.

        Raises OSError or MemoryError if there is not enough memory.
        """
        memory = self._reserve(turn, count * (like.nbytes + _FACTS))
        rows: Pixels = np.frombuffer(memory, like.dtype, count * like.size).reshape(count, *like.shape)
        return rows

    def finish(self, turn: int, pixels: Pixels, facts: Sequence[Facts]) -> ResultHeader:
        """Add the facts to the result number ``turn``, whose ``pixels`` are a part of `rows`; may raise as `rows`."""
        pickled = pickle.dumps(facts)
        end = pixels.nbytes + len(pickled)
        memory = self._reserve(turn, end, keep=True)
        memory[pixels.nbytes : end] = pickled
        return ResultHeader(pixels.shape, pixels.dtype.name, len(pickled))

    def read(self, turn: int, header: ResultHeader) -> tuple[Pixels, list[Facts]]:
        """A copy of the result number ``turn``: pixels, N x 3 x H x W, and the facts of each image."""
        dtype, count = np.dtype(header.dtype), int(np.prod(header.shape))
        memory = self._map(turn, count * dtype.itemsize + header.facts)
        pixels: Pixels = np.frombuffer(memory, dtype, count).reshape(header.shape).copy()
        facts: list[Facts] = pickle.loads(memory[pixels.nbytes : pixels.nbytes + header.facts])  # noqa: S301 - our own
        return pixels, facts

    def _reserve(self, turn: int, size: int, *, keep: bool = False) -> mmap.mmap:
        """A slot with at least ``size`` bytes, all of them allocated: to touch others would end the process.

        If ``keep``, with the content that it has.
        """
        descriptor = self._descriptors[turn % len(self._descriptors)]
        capacity = os.fstat(descriptor).st_size
        if size > capacity or (capacity > _SHRINK * size and not keep):
            if not keep:
                os.ftruncate(descriptor, 0)
            _allocate(descriptor, size)
        return self._map(turn, size)

    def _map(self, turn: int, size: int) -> mmap.mmap:
        slot = turn % len(self._mapped)
        memory = self._mapped[slot]
        if memory is None or len(memory) < size:
            memory = self._mapped[slot] = mmap.mmap(self._descriptors[slot], 0)
        return memory


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dinoclassify")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(size - os.fstat(descriptor).st_size)
    while zeros:
        zeros = zeros[os.pwrite(descriptor, zeros, size - len(zeros)) :]
