"""The Ray engine: it distributes the work over a cluster, and does none of it.

The driver finds the inputs and writes them down in chunks, see `writers.chunks`. The names of the chunks go through a
pipeline of Ray Data:

    read       one task, which yields the names of the chunks as they are planned
    decode     tasks with one decoding worker each, as in the local engine: a chunk -> pieces of decoded images
    classify   actors, each of which opened the model once: a piece -> rows, which it writes, and their counts

Ray repeats the work of any process that dies, with the same result: chunks do not change, and the rows of a piece are
written whole under a name of their own. Ray Data holds back each stage while the next one is busy.
"""

import itertools
import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dinoclassify.cluster.chunk_source import ChunkQueue, ChunkSource
from dinoclassify.cluster.resources import ResourcePlan, gpus_per_replica, plan_resources
from dinoclassify.cluster.tasks import DecodeTask, Decoding, Replica, decode_chunk, describe_job
from dinoclassify.errors import DinoclassifyError, UsageError
from dinoclassify.loaded_model import Job
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.source import Source
from dinoclassify.version import __version__
from dinoclassify.writers.chunks import Chunk, ChunkResult, chunk_size
from dinoclassify.writers.formats.base import R
from dinoclassify.writers.provenance import Origin

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_CHUNKS_PER_WORKER, _CHUNKS_PER_REPLICA = 2, 4  # unfinished ones
_REPLICA_DEATHS = 3  # in a row, while they open the model, before the run ends
_PLANNER_TIMEOUT = 2.0  # seconds to wait for the planning thread at the end


def probe_model(open_job: Callable[[], Job[R]], *, gpus: float | None = None) -> Origin[R]:
    """Open the model where a replica would, and return what it is.

    Raises:
        DinoclassifyError: ``open_job`` raised it; or the nodes have another version of this program, or none.
    """
    plan_resources(gpus)  # raises where Ray would wait forever
    describe: Any = ray.remote(num_cpus=0, num_gpus=gpus_per_replica(gpus), max_retries=-1)(describe_job)
    with _original_errors():
        version: str
        origin: Origin[R]
        version, origin = ray.get(describe.remote(open_job, os.getcwd()))
    if version != __version__:
        versions = f"the nodes of the cluster have dinoclassify {version}, this one {__version__}"
        raise UsageError(f"{versions}: install the same version on all")
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
    """Classify all chunks of a plan and write their rows; yield the result of each piece when it is written.

    Args:
        open_job: opens the model, once in each replica.
        preprocessing: that of the model.
        plan: the chunks to classify, see `writers.chunks.ChunkPlan`. Another thread reads it; an error in it is raised
            after the results of the chunks before.
        work: the folder of the plan, and of the rows.
        decoding: how images are decoded.
        expand: yields the sources in a `SequentialContainer`.
        gpus: GPUs per replica, also a part of one; 0 for none. By default one, if the cluster has any.
        stop: asked after each piece; True ends the run at once and leaves the other chunks for another run.

    Raises:
        DinoclassifyError: no replica can open the model, decoding processes keep dying, or rows cannot be written.
    """
    first = next(plan, None)
    if first is None:
        return
    resources = plan_resources(gpus)
    task = DecodeTask(work, os.getcwd(), preprocessing, decoding, expand, chunk_size(decoding.batch_size))
    plan_errors: list[Exception] = []
    with _queue_of(itertools.chain([first], plan), resources, plan_errors) as queue, _original_errors():
        for result in _results(_pipeline(open_job, task, queue, resources)):
            if result.piece.last:
                queue.finish.remote()
            yield result
            if stop():
                return
    if plan_errors:
        raise plan_errors[0]


@contextmanager
def _queue_of(plan: Iterator[Chunk], resources: ResourcePlan, errors: list[Exception]) -> "Iterator[ActorHandle[Any]]":
    """Yield a `ChunkQueue` on this node. A thread adds the chunks of a plan; its errors go to ``errors``."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    new: Any = ray.remote(num_cpus=0, max_restarts=0)(ChunkQueue)
    ahead = _CHUNKS_PER_WORKER * resources.workers + _CHUNKS_PER_REPLICA * resources.replicas
    queue: ActorHandle[Any] = new.options(scheduling_strategy=here).remote(ahead)
    over = threading.Event()

    def fill() -> None:
        """Queue the names of the chunks as they are planned, and note an error of the plan."""
        try:
            for chunk in plan:
                if over.is_set():
                    return
                queue.add.remote(chunk.name)
        except Exception as error:
            errors.append(error)
        queue.end.remote()

    planner = threading.Thread(target=fill, name="plan", daemon=True)
    planner.start()
    try:
        yield queue
    finally:
        over.set()
        planner.join(_PLANNER_TIMEOUT)  # it may be waiting for a list on stdin
        ray.kill(queue)


def _pipeline(
    open_job: Callable[[], Job[R]], task: DecodeTask, queue: "ActorHandle[Any]", resources: ResourcePlan
) -> "ray.data.Dataset":
    context = DataContext.get_current()
    context.target_max_block_size = 1  # byte: each output of a stage is a block of its own, and goes on at once
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = _REPLICA_DEATHS
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1  # keep models open
    decoded = ray.data.read_datasource(ChunkSource(queue), override_num_blocks=1, num_cpus=0).map_batches(
        decode_chunk,
        fn_kwargs={"task": task},
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=resources.cpus_per_worker,
    )
    # Replicas reserve no processors, so that one whose node is lost always finds another.
    results: ray.data.Dataset = decoded.map_batches(
        Replica,
        fn_constructor_args=(open_job, task.work, task.folder, task.decoding.batch_size),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ActorPoolStrategy(min_size=1, initial_size=resources.replicas, max_size=resources.max_replicas),
        **resources.replica_options,
    )
    return results


def _results(blocks: "ray.data.Dataset") -> Iterator[ChunkResult]:
    for block in blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for result in pa.table(block)["result"].to_pylist():
            yield pickle.loads(result)  # noqa: S301 - a replica has written it


@contextmanager
def _original_errors() -> Iterator[None]:
    """Raise a DinoclassifyError of another node as it was raised there, without what Ray wraps around it."""
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
