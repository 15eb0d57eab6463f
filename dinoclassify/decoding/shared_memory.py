"""Memory in which a worker leaves its results, which outlive it.

It consists of files without a name, in memory where the system supports that. So it needs no room in /dev/shm, nothing
remains of it when both processes are gone, and a result is whole once its header has arrived.
"""

import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinoclassify.decoding.batch import DecodedImage, Pixels


@dataclass(frozen=True, slots=True)
class ResultHeader:
    """The message that a result is complete, with its sizes: so short that a pipe takes it whole or not at all."""

    shape: tuple[int, ...]
    dtype: str
    items: int  # bytes


class ResultBuffer:
    """Slots for ``count`` results at a time, used in turn."""

    def __init__(self, count: int) -> None:
        self._descriptors = [_nameless_file() for _ in range(count)]

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __getstate__(self) -> list[Any]:  # for a spawned process; the type of a DupFd is not public
        return [reduction.DupFd(descriptor) for descriptor in self._descriptors]

    def __setstate__(self, duplicates: list[Any]) -> None:
        self._descriptors = [duplicate.detach() for duplicate in duplicates]

    def write(self, turn: int, pixels: Pixels, items: Sequence[DecodedImage]) -> ResultHeader:
        """Write the result number ``turn``; raises OSError if there is not enough memory."""
        descriptor = self._descriptors[turn % len(self._descriptors)]
        pickled = pickle.dumps(items)
        _write(descriptor, pixels.reshape(-1).view(np.uint8).data, 0)
        _write(descriptor, memoryview(pickled), pixels.nbytes)
        os.ftruncate(descriptor, pixels.nbytes + len(pickled))  # frees what a larger result has left
        return ResultHeader(pixels.shape, pixels.dtype.name, len(pickled))

    def read(self, turn: int, written: ResultHeader, *, pinned: bool) -> tuple[Tensor, list[DecodedImage]]:
        """A copy of the result number ``turn``: pixels, N x 3 x H x W, and items; see `empty`."""
        descriptor = self._descriptors[turn % len(self._descriptors)]
        pixels = empty(written.shape, getattr(torch, written.dtype), pinned=pinned)
        pickled = bytearray(written.items)
        _read(descriptor, pixels.view(-1).view(torch.uint8).numpy().data, 0)
        _read(descriptor, memoryview(pickled), pixels.nbytes)
        items: list[DecodedImage] = pickle.loads(pickled)  # noqa: S301 - this program has written it
        return pixels, items


def empty(shape: tuple[int, ...], dtype: torch.dtype, *, pinned: bool) -> Tensor:
    """An uninitialised tensor; if ``pinned`` in memory from and to which CUDA copies while the processor goes on."""
    return empty_pinned(shape, dtype) if pinned else torch.empty(shape, dtype=dtype)


def empty_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in pinned memory; in ordinary memory, which is slower, where none can be pinned."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return torch.empty(shape, dtype=dtype)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dinoclassify")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count


def _read(descriptor: int, buffer: memoryview, offset: int) -> None:
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        buffer, offset = buffer[count:], offset + count
