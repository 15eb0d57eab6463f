"""Pieces of decoded images, and the Arrow blocks that carry them from one process to another."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.shared_memory import empty
from dinoclassify.writers.chunks import Piece


def pieces_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of batches with ``size`` inputs each. Deterministic: a retried task must produce the same pieces."""
    piece: list[Batch] = []
    for batch in batches:
        piece.append(batch)
        if sum(len(batch.inputs) for batch in piece) >= size:
            yield piece
            piece = []
    if piece:
        yield piece


def pack(piece: Piece, batches: Sequence[Batch]) -> pa.Table:
    """Return a piece as a block: the bytes of the pixels, and everything else pickled."""
    pixels = [batch.pixels.numpy() for batch in batches]
    rest = [replace(batch, pixels=torch.empty(0)) for batch in batches]
    shapes = [(array.shape, array.dtype.name) for array in pixels]
    return pa.table(
        {
            "piece": [pickle.dumps((piece, rest, shapes))],
            "pixels": pa.array(
                [[array.reshape(-1).view(np.uint8).data for array in pixels]], pa.list_(pa.large_binary())
            ),
        }
    )


def unpack(block: pa.Table, *, pinned: bool) -> tuple[Piece, list[Batch]]:
    """Return the piece in a block that `pack` made; its pixels are in ``pinned`` memory if there is enough."""
    piece, rest, shapes = pickle.loads(block["piece"][0].as_py())  # noqa: S301 - this program has written it
    batches: list[Batch] = []
    for batch, (shape, dtype), content in zip(rest, shapes, block["pixels"][0].values, strict=True):
        pixels = empty(shape, getattr(torch, dtype), pinned=pinned)
        np.copyto(pixels.numpy(), np.frombuffer(content.as_buffer(), dtype).reshape(shape))
        batches.append(replace(batch, pixels=pixels))
    return piece, batches
