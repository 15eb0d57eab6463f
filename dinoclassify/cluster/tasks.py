"""What runs on the nodes of a cluster: decoding a chunk into pieces, and classifying a piece.

Arrow blocks carry the pieces from one process to another.
"""

import itertools
import os
import pickle
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Generic

import numpy as np
import pyarrow as pa

from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.location import is_relative_file
from dinoclassify.errors import UsageError
from dinoclassify.loaded_model import Job
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.run_options import RunOptions, hand_over
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.version import __version__
from dinoclassify.writers.chunks import Chunk, Piece, read_chunk, write_rows
from dinoclassify.writers.formats.base import R
from dinoclassify.writers.provenance import Origin


@dataclass(frozen=True, slots=True)
class Decoding:
    """How images are decoded, in forward batches of ``batch_size``; see `decoding.loader.load_batches`."""

    batch_size: int
    exact: bool
    max_pixels: int
    timeout: float
    private: bool = False


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """What decoding a chunk needs."""

    work: str  # the folder of the plan
    folder: str  # the working folder of the driver
    preprocessing: Preprocessing | OpaqueProcessor
    decoding: Decoding
    expand: Callable[[Source], Iterator[Source]]  # yields the sources in a `SequentialContainer`
    piece_size: int  # inputs


def describe_job(open_job: Callable[[], Job[R]], folder: str) -> tuple[str, Origin[R]]:
    """Open the model; return the version of this program and what the model is."""
    _enter(folder)
    return __version__, open_job().origin()


def decode_chunk(block: pa.Table, *, task: DecodeTask) -> Iterator[pa.Table]:
    """Yield the decoded pieces of the chunk that a block names.

    Raises:
        UsageError: the plan cannot be read, or a path is relative to a folder that this node does not have.
    """
    (name,) = block["chunk"].to_pylist()
    chunk = read_chunk(task.work, name)
    _enter(task.folder, *(source.path for source in chunk.sources))
    arguments = {**asdict(task.decoding), "batch_size": hand_over(task.decoding.batch_size)}
    batches = load_batches(_sources(chunk, task), task.preprocessing, workers=1, **arguments)
    numbers = (number for number in itertools.count() if number not in chunk.done)
    pieces = pieces_of(batches, task.piece_size)
    piece = next(pieces, [])
    for following in pieces:
        yield pack(Piece(name, next(numbers), last=False), piece)
        piece = following
    yield pack(Piece(name, next(numbers), last=True), piece)


class Replica(Generic[R]):
    """An opened model, in an actor."""

    def __init__(self, open_job: Callable[[], Job[R]], work: str, folder: str, batch_size: int) -> None:
        _enter(folder)
        os.environ["OMP_NUM_THREADS"] = str(available_cpus())  # Ray sets it to the processors that the actor reserves
        self._job = open_job()
        self._work = work
        self._options = RunOptions(batch_size=batch_size)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Classify a piece and write its rows; return its `ChunkResult`, pickled."""
        piece, batches = unpack(block)
        rows = list(self._job.infer(batches, options=self._options))
        result = write_rows(self._work, piece, self._job.row_format.lines, rows)
        return pa.table({"result": [pickle.dumps(result)]})


def _sources(chunk: Chunk, task: DecodeTask) -> Iterator[Source]:
    """Yield the images of a chunk, without those of pieces that are done."""
    for source in chunk.sources:
        if isinstance(source.content, SequentialContainer):
            members = enumerate(task.expand(source))
            yield from (member for number, member in members if number // task.piece_size not in chunk.done)
        else:
            yield source


def _enter(folder: str, *paths: str) -> None:
    """Change to the working folder of the driver.

    Raises:
        UsageError: this node does not have it, and one of ``paths`` is relative.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        relative = next(filter(is_relative_file, paths), None)
        if relative is not None:
            why = f"{platform.node()} cannot enter {folder}, in which {relative} begins ({error.strerror})"
            raise UsageError(f"{why}: name absolute paths, or share that folder with all machines") from error


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
    pixels = [batch.pixels for batch in batches]
    rest = [replace(batch, pixels=np.empty(0, np.uint8)) for batch in batches]
    shapes = [(array.shape, array.dtype.name) for array in pixels]
    contents = [array.reshape(-1).view(np.uint8).data for array in pixels]
    described = pickle.dumps((piece, rest, shapes))
    return pa.table({"piece": [described], "pixels": pa.array([contents], pa.list_(pa.large_binary()))})


def unpack(block: pa.Table) -> tuple[Piece, list[Batch]]:
    """Return the piece in a block that `pack` made."""
    piece, rest, shapes = pickle.loads(block["piece"][0].as_py())  # noqa: S301 - this program has written it
    pixels = (
        np.frombuffer(content.as_buffer(), dtype).reshape(shape)
        for (shape, dtype), content in zip(shapes, block["pixels"][0].values, strict=True)
    )
    return piece, [replace(batch, pixels=array.copy()) for batch, array in zip(rest, pixels, strict=True)]
