"""The Ray engine: the same rooms, arranged over the machines of a cluster. Of itself it decodes and answers nothing.

The driver finds the inputs and writes them down in chunks, see `writers.chunks`. Their names go through a
pipeline of Ray Data:

    follow     one task, which gives the names of the chunks as they are planned
    decode     tasks, each of which has a worker as the local engine has them: a chunk -> pieces of decoded images
    classify   actors, each of which has opened the model once: a piece -> rows, which it writes, and their counts

Whatever dies is done again by Ray, and gives the same: chunks are written down, and rows of a piece are written at a
stroke under a name of their own. What is waited for downstream is held back upstream, by Ray Data.
"""

import itertools
import os
import pickle
import platform
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dinoclassify.cluster.chunk_source import ChunkQueue, Plan
from dinoclassify.cluster.resources import ResourcePlan, gpus_of_replica, use_of_cluster
from dinoclassify.cluster.transport import packed, pieces_of, unpacked
from dinoclassify.decoding.loader import load_batches
from dinoclassify.decoding.worker import Batch
from dinoclassify.discovery.location import is_relative_file
from dinoclassify.errors import DinoclassifyError, UsageError
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.version import __version__
from dinoclassify.writers.chunks import Chunk, ChunkResult, Piece, chunk_size, read_chunk, write_rows
from dinoclassify.writers.formats import R, RowFormat
from dinoclassify.writers.provenance import Origin

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from dinoclassify.loaded_model import LoadedModel

_DECODING, _ANSWERING = 2, 4  # chunks that are under way for each worker that decodes, and for each replica
_DEATHS = 3  # of replicas in a row that die while they open the model: then the run ends
_PATIENCE = 2.0  # seconds for what is planned in another thread to come to its end


class Job(Protocol[R]):
    """What a replica needs of an opened model; see `cli.runs.to_file.Job`."""

    @property
    def model(self) -> "LoadedModel":
        """The model."""

    @property
    def infer(self) -> Callable[[Iterable[Batch]], Iterator[R]]:
        """Batches -> rows."""

    @property
    def row_format(self) -> RowFormat[R]:
        """What rows are written in."""

    def origin(self) -> Origin[R]:
        """What its rows come from."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How images are decoded; see `decoding.loader.load_batches`."""

    batch_size: int
    exact: bool
    max_pixels: int
    timeout: float
    private: bool = False


def probe_model(open_job: Callable[[], Job[R]], *, gpus: float | None = None) -> Origin[R]:
    """Open the model where a replica would, and say what it is.

    Args:
        open_job: opens the model.
        gpus: see `completed_chunks`.

    Raises:
        DinoclassifyError: what `open_job` raises; or the nodes have another version of this program, or none.
    """
    use_of_cluster(gpus)  # that there is a place, which would be waited for without end
    look: Any = ray.remote(num_cpus=0, num_gpus=gpus_of_replica(gpus), max_retries=-1)(_look)
    with _reporting():
        version: str
        origin: Origin[R]
        version, origin = ray.get(look.remote(open_job, os.getcwd()))
    here = __version__
    if version != here:
        raise UsageError(f"the nodes of the cluster have dinoclassify {version}, this one {here}: install the same")
    return origin


def completed_chunks(
    open_job: Callable[[], Job[R]],
    preprocessing: Preprocessing | OpaqueProcessor,
    plan: Iterator[Chunk],
    work: str,
    decoding: Decoding,
    *,
    expand: Callable[[Source], Iterator[Source]],
    gpus: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[ChunkResult]:
    """Answer all chunks of a plan, and write their rows; gives what became of each piece, as it is written.

    Args:
        open_job: opens the model; once in each replica.
        preprocessing: that of the model.
        plan: the chunks that are to be answered, see `writers.chunks.ChunkPlan`; asked for in another
            thread. What goes wrong with it is raised when those before are answered.
        work: where their plan is, and their rows go.
        decoding: how images are decoded.
        expand: gives the sources in a `SequentialContainer`.
        gpus: those of a replica, which may be a part of one; 0 for none. By default one, if the cluster has any.
        stop: asked after each piece; when it says so, all ends at once: chunks that are not done are for another run.

    Raises:
        DinoclassifyError: no replica can be opened, processes that decode keep dying, or rows cannot be written.
    """
    first = next(plan, None)
    if first is None:
        return
    use = use_of_cluster(gpus)
    todo = _start_todo(_DECODING * use.workers + _ANSWERING * use.replicas)
    over = threading.Event()
    errors: list[Exception] = []

    def announce() -> None:
        try:
            for chunk in itertools.chain([first], plan):
                if over.is_set():
                    return
                todo.add.remote(chunk.name)
        except Exception as error:
            errors.append(error)
        todo.end.remote()

    planner = threading.Thread(target=announce, name="plan", daemon=True)
    planner.start()
    try:
        with _reporting():
            for outcome in _outcomes(_pipeline(open_job, preprocessing, todo, work, decoding, expand, use)):
                if outcome.piece.last:
                    todo.finish.remote()
                yield outcome
                if stop():
                    return
    finally:
        over.set()
        planner.join(_PATIENCE)  # it may be waiting for a list on stdin
        ray.kill(todo)
    if errors:
        raise errors[0]


def _start_todo(ahead: int) -> "ActorHandle[Any]":
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    new: Any = ray.remote(num_cpus=0, max_restarts=0)(ChunkQueue)
    todo: ActorHandle[Any] = new.options(scheduling_strategy=here).remote(ahead)
    return todo


class _Replica(Generic[R]):
    """An opened model, in an actor."""

    def __init__(self, open_job: Callable[[], Job[R]], work: str, folder: str) -> None:
        _enter(folder)
        torch.set_num_threads(available_cpus())  # Ray has made it as many as the actor has of its resources
        self._job = open_job()
        self._work = work

    def __call__(self, block: pa.Table) -> pa.Table:
        """Answer a piece, and write its rows."""
        piece, batches = unpacked(block, pinned=self._job.model.device.startswith("cuda"))
        rows = list(self._job.infer(batches))
        outcome = write_rows(self._work, piece, self._job.row_format.lines, rows)
        return pa.table({"outcome": [pickle.dumps(outcome)]})


def _pipeline(
    open_job: Callable[[], Job[R]],
    preprocessing: Preprocessing | OpaqueProcessor,
    todo: "ActorHandle[Any]",
    work: str,
    decoding: Decoding,
    expand: Callable[[Source], Iterator[Source]],
    use: ResourcePlan,
) -> "ray.data.Dataset":
    context = DataContext.get_current()
    context.target_max_block_size = 1  # byte: whatever a stage yields goes on at once, and alone
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = _DEATHS
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1  # a model that was opened stays so
    decoded = ray.data.read_datasource(Plan(todo), override_num_blocks=1, num_cpus=0).map_batches(
        _decode,
        fn_kwargs={
            "work": work,
            "preprocessing": preprocessing,
            "decoding": decoding,
            "expand": expand,
            "size": chunk_size(decoding.batch_size),
            "folder": os.getcwd(),
        },
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=use.cpus,
    )
    # A replica has no processors to itself, so that one whose node is lost always finds another.
    rows: ray.data.Dataset = decoded.map_batches(
        _Replica,
        fn_constructor_args=(open_job, work, os.getcwd()),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ActorPoolStrategy(min_size=1, initial_size=use.replicas, max_size=use.most),
        **use.replica,
    )
    return rows


def _outcomes(rows: "ray.data.Dataset") -> Iterator[ChunkResult]:
    for block in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for outcome in pa.table(block)["outcome"].to_pylist():
            yield pickle.loads(outcome)  # noqa: S301 - a replica has written it


def _enter(folder: str, *names: str) -> None:
    """Work in the folder in which the driver does.

    Raises:
        UsageError: it is not there, and one of these names is relative.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        relative = next(filter(is_relative_file, names), None)
        if relative is not None:
            why = f"{platform.node()} cannot enter {folder}, in which {relative} begins ({error.strerror})"
            raise UsageError(f"{why}: name absolute paths, or share that folder with all machines") from error


def _look(open_job: Callable[[], Job[R]], folder: str) -> tuple[str, Origin[R]]:
    _enter(folder)
    return __version__, open_job().origin()


def _decode(
    block: pa.Table,
    *,
    work: str,
    preprocessing: Preprocessing | OpaqueProcessor,
    decoding: Decoding,
    expand: Callable[[Source], Iterator[Source]],
    size: int,
    folder: str,
) -> Iterator[pa.Table]:
    """A chunk -> its pieces of ``size`` inputs, decoded."""
    (name,) = block["chunk"].to_pylist()
    chunk = read_chunk(work, name)
    _enter(folder, *(source.path for source in chunk.sources))
    batches = load_batches(
        _sources(chunk, expand, size),
        preprocessing,
        batch_size=decoding.batch_size,
        workers=1,
        exact=decoding.exact,
        max_pixels=decoding.max_pixels,
        timeout=decoding.timeout,
        private=decoding.private,
    )
    numbers = (number for number in itertools.count() if number not in chunk.done)
    pieces = pieces_of(batches, size)
    piece = next(pieces, [])
    for following in pieces:
        yield packed(Piece(name, next(numbers), last=False), piece)
        piece = following
    yield packed(Piece(name, next(numbers), last=True), piece)


def _sources(chunk: Chunk, expand: Callable[[Source], Iterator[Source]], size: int) -> Iterator[Source]:
    """The images of a chunk, without those of pieces that are done."""
    for source in chunk.sources:
        if isinstance(source.content, SequentialContainer):
            yield from (member for number, member in enumerate(expand(source)) if number // size not in chunk.done)
        else:
            yield source


@contextmanager
def _reporting() -> Iterator[None]:
    """Raise what has gone wrong on another node as it was raised there, if it is for people."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not (
            isinstance(cause, DinoclassifyError) and not isinstance(cause, ray.exceptions.RayTaskError)
        ):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise cause from None
        if "No module named 'dinoclassify" in str(error):
            raise UsageError("the nodes of the cluster have no dinoclassify: install the same there as here") from error
        raise
