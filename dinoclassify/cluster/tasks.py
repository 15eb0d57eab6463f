"""What runs on the nodes of a cluster: decoding a chunk into pieces, and classifying a piece."""

import itertools
import os
import pickle
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic

import pyarrow as pa
import torch

from dinoclassify.cluster.transport import pack, pieces_of, unpack
from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.location import is_relative_file
from dinoclassify.errors import UsageError
from dinoclassify.loaded_model import Job
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.version import __version__
from dinoclassify.writers.chunks import Chunk, Piece, read_chunk, write_rows
from dinoclassify.writers.formats.base import R
from dinoclassify.writers.provenance import Origin


@dataclass(frozen=True, slots=True)
class Decoding:
    """How images are decoded; see `decoding.loader.load_batches`."""

    batch_size: int
    exact: bool
    max_pixels: int
    timeout: float
    private: bool = False


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """What decoding a chunk needs.

    Attributes:
        work: the folder of the plan.
        folder: the working folder of the driver.
        preprocessing: that of the model.
        decoding: how images are decoded.
        expand: yields the sources in a `SequentialContainer`.
        piece_size: inputs in a piece.
    """

    work: str
    folder: str
    preprocessing: Preprocessing | OpaqueProcessor
    decoding: Decoding
    expand: Callable[[Source], Iterator[Source]]
    piece_size: int


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
    decoding = task.decoding
    batches = load_batches(
        _sources(chunk, task),
        task.preprocessing,
        batch_size=decoding.batch_size,
        workers=1,
        exact=decoding.exact,
        max_pixels=decoding.max_pixels,
        timeout=decoding.timeout,
        private=decoding.private,
    )
    numbers = (number for number in itertools.count() if number not in chunk.done)
    pieces = pieces_of(batches, task.piece_size)
    piece = next(pieces, [])
    for following in pieces:
        yield pack(Piece(name, next(numbers), last=False), piece)
        piece = following
    yield pack(Piece(name, next(numbers), last=True), piece)


class Replica(Generic[R]):
    """An opened model, in an actor."""

    def __init__(self, open_job: Callable[[], Job[R]], work: str, folder: str) -> None:
        _enter(folder)
        torch.set_num_threads(available_cpus())  # Ray limits them to the processors that the actor reserves
        self._job = open_job()
        self._work = work

    def __call__(self, block: pa.Table) -> pa.Table:
        """Classify a piece and write its rows; return its `ChunkResult`, pickled."""
        piece, batches = unpack(block, pinned=self._job.model.device.startswith("cuda"))
        rows = list(self._job.infer(batches))
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
