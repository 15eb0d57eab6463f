"""Ray clusters of several nodes on this machine, and runs on them."""

import functools
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.preprocessing import OpaqueProcessor
from dinoclassify.types.run_options import whole_batches
from dinoclassify.types.source import MAX_PIXELS, Source
from dinoclassify.writers.chunks import ChunkPlan, ChunkResult, chunk_size
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.manifest import part_files
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.provenance import Origin

IMAGES = 120
MEMORY = 100 << 20  # bytes of each object store


def make_images(folder: Path, count: int) -> list[str]:
    """Make ``count`` different images; returns their paths."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [str(folder / f"{number:04}.jpg") for number in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((96, 72)).save(path)
    return paths


def job_opener(model: str, loads: Path | None = None, seconds: float = 0.0) -> Callable[[], Any]:
    """Return a function that opens a job in a replica, which takes ``seconds`` for each piece.

    Each call is noted in the folder ``loads``. No piece is answered before there are as many as were asked for with
    `await_loads`.
    """

    def open_job() -> Any:
        from dinoclassify.classifier import Classifier

        classifier = Classifier(model, runtime="torch", device="cpu")
        if loads is not None:
            (loads / f"{os.getpid()}-{time.monotonic_ns()}").touch()

        def infer(batches: Any, **options: Any) -> Any:
            while loads is not None and len(list(loads.iterdir())) < int(os.readlink(loads.with_name("awaited"))):
                time.sleep(0.1)
            time.sleep(seconds)
            return classifier.classify_batches(batches, top_k=2, **options)

        origin = Origin(classifier.info, classifier.digest(), open_format("jsonl", 2), {}, {"labels": 7})
        return SimpleNamespace(model=classifier, infer=infer, row_format=origin.row_format, origin=lambda: origin)

    return open_job


def await_loads(loads: Path, count: int) -> None:
    """Make replicas wait until the model was opened ``count`` times."""
    os.symlink(str(count), loads.with_name("next"))  # which is read whole or not at all
    os.replace(loads.with_name("next"), loads.with_name("awaited"))


@contextmanager
def cluster_of(nodes: int, **node: Any) -> Iterator[Any]:
    """A cluster of ``nodes`` workers and a head without processors; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    from dinoclassify.cluster.connection import connected

    by_value()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray itself, and of what it leaves open
        soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 5}
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": MEMORY,
                "include_dashboard": False,
                "_system_config": soon,
            },
        )
        try:
            for _ in range(nodes):
                cluster.add_node(**{"num_cpus": 1, "object_store_memory": MEMORY, **node})
            with connected(cluster.address):
                yield cluster
        finally:
            if ray.is_initialized():
                ray.shutdown()
            cluster.shutdown()


def by_value() -> None:
    """Pickle this module by value, because nodes cannot import it."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def nothing_in(_: Source) -> Iterator[Source]:
    yield from ()


@functools.cache
def facts_of(model: str, gpus: float | None) -> Any:
    from dinoclassify.cluster.engine import probe_model

    return probe_model(job_opener(model), gpus=gpus)


def run_on_cluster(
    folder: str,
    model: str,
    open_job: Callable[[], Any],
    sources: Iterable[Source],
    *,
    expand: Callable[[Source], Iterator[Source]] = nothing_in,
    on_outcome: Callable[[int], None] = lambda _: None,
    timeout: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    gpus: float | None = None,
    preprocessing: OpaqueProcessor | None = None,
    resume: bool = False,
) -> tuple[list[ChunkResult], list[str]]:
    """A whole run; returns the results of its pieces, and the inputs whose rows were kept."""
    from dinoclassify.cluster.engine import completed_chunks
    from dinoclassify.cluster.tasks import Decoding

    facts = facts_of(model, gpus)
    lines, size = facts.row_format.lines, facts.model.batch_size
    place = OutputFolder(folder, facts.row_format, batch_size=whole_batches(size))
    kept: list[str] = []
    results: list[ChunkResult] = []
    with closing(Output.open(place, lines, {"model": facts.model.name}, UpdateOptions(resume=resume))) as output:
        plan = ChunkPlan(OutputPaths(folder).journal, lines, chunk_size(size), retry_failed=False)
        pending = output.pending(
            sources, lambda source, change, _: kept.append(source.path) if change == "kept" else None
        )
        for result in completed_chunks(
            open_job,
            preprocessing or facts.model.preprocessing,
            plan.chunks(pending, lambda row: kept.append(row.path)),
            plan.work,
            Decoding(size, exact=False, max_pixels=MAX_PIXELS, timeout=timeout),
            expand=expand,
            gpus=gpus,
            stop=stop,
        ):
            plan.add(result.file)
            results.append(result)
            on_outcome(len(results))
        if not stop():
            output.finish(output.unmatched(plan.stream_paths()), {}, plan.rows())
    return results, kept


def rows_of(folder: str) -> bytes:
    return b"".join(Path(name).read_bytes() for name in part_files(folder))


def rows_here(model: str, paths: list[str]) -> bytes:
    """The rows that the local engine writes."""
    from dinoclassify.classifier import Classifier

    classifier = Classifier(model, runtime="torch", device="cpu")
    return b"".join(map(open_format("jsonl", 2).lines.line, classifier.predict(paths, top_k=2)))


def replicas() -> list[int]:
    """The processes with a model in the clusters of this process: other tests may have clusters at the same time."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    processes = {
        int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in listed.splitlines())
    }

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in processes and is_ours(processes[pid][0]))

    return [pid for pid, (_, args) in processes.items() if "ray::MapWorker" in args and is_ours(pid)]


class HostileProcessor:
    """A processor that crashes for images 11 pixels wide, and hangs for those 22 wide, as a bug in a decoder does."""

    def __call__(self, images: Any, *, return_tensors: str) -> Any:
        if images.width == 11:
            os.kill(os.getpid(), signal.SIGSEGV)
        if images.width == 22:
            time.sleep(1000)
        return {"pixel_values": [torch.zeros(3, 56, 56)]}
