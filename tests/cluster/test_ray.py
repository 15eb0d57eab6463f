"""The Ray engine, on clusters of several nodes on this machine: rows as the local engine makes them, whatever dies."""

import functools
import json
import os
import platform
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
import pytest
import torch
from PIL import Image

from dinoclassify.cluster.transport import pack, pieces_of, unpack
from dinoclassify.decoding.batch import Batch, DecodedImage
from dinoclassify.errors import ModelError, UsageError
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.prediction import Failure
from dinoclassify.types.preprocessing import OpaqueProcessor
from dinoclassify.types.source import MAX_PIXELS, SequentialContainer, Source
from dinoclassify.writers import chunks
from dinoclassify.writers.chunks import Chunk, ChunkPlan, ChunkResult, Piece, chunk_size, write_chunk
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.manifest import part_files
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.provenance import Origin
from tests.conftest import ROOT, by_fork
from tests.helpers.levels import TINY

pytest.importorskip("ray")

IMAGES = 120
MEMORY = 100 << 20  # bytes of each object store


def make(folder: Path, count: int) -> list[str]:
    """Images that are each another."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [str(folder / f"{number:04}.jpg") for number in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((96, 72)).save(path)
    return paths


@pytest.fixture(scope="module")
def image_paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths of `IMAGES` images."""
    return make(tmp_path_factory.mktemp("ray") / "images", IMAGES)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 8)


def job_opener(model: str, loads: Path | None = None, seconds: float = 0.0) -> Callable[[], Any]:
    """A function for replicas, which take some time for each piece.

    Each call is noted in the folder ``loads``. No piece is answered before there are as many as were asked for with
    `await_loads`.
    """

    def open_job() -> Any:
        from dinoclassify.classifier import Classifier

        classifier = Classifier(model, runtime="torch", device="cpu")
        if loads is not None:
            (loads / f"{os.getpid()}-{time.monotonic_ns()}").touch()

        def infer(batches: Any) -> Any:
            while loads is not None and len(list(loads.iterdir())) < int(os.readlink(loads.with_name("awaited"))):
                time.sleep(0.1)
            time.sleep(seconds)
            return classifier.classify_batches(batches, top_k=2)

        origin = Origin(classifier.info, classifier.digest(), open_format("jsonl", 2), {}, {"labels": 7})
        return SimpleNamespace(model=classifier, infer=infer, row_format=origin.row_format, origin=lambda: origin)

    return open_job


def await_loads(loads: Path, count: int) -> None:
    """Have replicas wait until the model was opened so many times."""
    os.symlink(str(count), loads.with_name("next"))  # which is read whole or not at all
    os.replace(loads.with_name("next"), loads.with_name("awaited"))


@contextmanager
def cluster_of(nodes: int, **node: Any) -> Iterator[Any]:
    """A cluster of so many nodes, and a head that only directs them; this process is connected to it."""
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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes, of which nothing may be killed."""
    with cluster_of(2) as made:
        yield made


def by_value() -> None:
    """Have what is of this module, which nodes cannot import, sent to them as it is."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def nothing_in(_: Source) -> Iterator[Source]:
    yield from ()


@functools.cache
def facts_of(model: str, gpus: float | None) -> Any:
    from dinoclassify.cluster.engine import probe_model

    return probe_model(job_opener(model), gpus=gpus)


def run(
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
    """A whole run; gives what became of its pieces, and the inputs of which rows were kept."""
    from dinoclassify.cluster.engine import completed_chunks
    from dinoclassify.cluster.tasks import Decoding

    facts = facts_of(model, gpus)
    lines, size = facts.row_format.lines, facts.model.batch_size
    place = OutputFolder(folder, facts.row_format, batch_size=size)
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
            output.finish(output.unnamed(plan.stream_paths()), {}, plan.rows())
    return results, kept


def rows_of(folder: str) -> bytes:
    return b"".join(Path(name).read_bytes() for name in part_files(folder))


def rows_here(model: str, paths: list[str]) -> bytes:
    """The same rows by the local engine."""
    from dinoclassify.classifier import Classifier

    classifier = Classifier(model, runtime="torch", device="cpu")
    return b"".join(map(open_format("jsonl", 2).lines.line, classifier.predict(paths, top_k=2)))


def replicas() -> list[int]:
    """The processes with a model, of the clusters of this process alone: others test clusters at the same time."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    processes = {
        int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in listed.splitlines())
    }

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in processes and is_ours(processes[pid][0]))

    return [pid for pid, (_, args) in processes.items() if "ray::MapWorker" in args and is_ours(pid)]


def test_pieces_are_runs_of_batches_whatever_became_of_their_images() -> None:
    def batch(count: int, failed: int = 0) -> Batch:
        inputs = [DecodedImage(Source(str(number)), failure=None) for number in range(count)]
        return Batch(inputs, torch.zeros(count - failed, 3, 2, 2, dtype=torch.uint8), 0.0, 0.0)

    pieces = pieces_of([batch(4), batch(4, failed=4), batch(4), batch(1)], 8)
    assert [[len(batch.inputs) for batch in piece] for piece in pieces] == [[4, 4], [4, 1]]
    assert list(pieces_of([], 8)) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_piece_comes_out_of_its_block_as_it_went_in(dtype: torch.dtype) -> None:
    piece = Piece("chunk", 3, last=True)
    failed = DecodedImage(Source("b"), failure=Failure("vanished", "is gone"))
    batches = [
        Batch(
            [DecodedImage(Source("a"), size=1, mtime_ns=2), failed],
            torch.rand(1, 3, 4, 5).mul(255).to(dtype),
            0.5,
            0.25,
        ),
        Batch([failed], torch.empty((0, 3, 0, 0), dtype=dtype), 0.0, 0.0),
    ]
    back, same = unpack(pack(piece, batches), pinned=False)
    assert back == piece
    for one, other in zip(batches, same, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert one.pixels.dtype == other.pixels.dtype
        assert (one.inputs, one.read_seconds, one.decode_seconds) == (
            other.inputs,
            other.read_seconds,
            other.decode_seconds,
        )


def test_a_piece_is_in_ordinary_memory_where_none_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(shape: tuple[int, ...], *, pin_memory: bool = False, **options: Any) -> Any:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return empty(shape, **options)

    batch = Batch([DecodedImage(Source("a"))], torch.rand(1, 3, 4, 5), 0.0, 0.0)
    block = pack(Piece("chunk", 0, last=True), [batch])
    monkeypatch.setattr(torch, "empty", refuse)
    _, (same,) = unpack(block, pinned=True)
    assert torch.equal(batch.pixels, same.pixels)


def decoded(work: Path, chunk: Chunk, members: list[str], folder: Path) -> list[tuple[Piece, list[str]]]:
    """What a task of the cluster makes of a chunk: its pieces, with the paths of their images."""
    import pyarrow as pa

    from dinoclassify.cluster.tasks import DecodeTask, Decoding, decode_chunk

    write_chunk(str(work), chunk)
    decoding = Decoding(2, exact=False, max_pixels=MAX_PIXELS, timeout=60.0)
    task = DecodeTask(str(work), str(folder), TINY, decoding, lambda _: map(Source, members), piece_size=4)
    blocks = decode_chunk(pa.table({"chunk": [chunk.name]}), task=task)
    found = [unpack(block, pinned=False) for block in blocks]
    return [(piece, [each.source.path for batch in batches for each in batch.inputs]) for piece, batches in found]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), [(0, "0123"), (1, "4567"), (2, "89")]),
        ((0,), [(1, "4567"), (2, "89")]),
        ((1,), [(0, "0123"), (2, "89")]),
        ((0, 1), [(2, "89")]),
        ((0, 1, 2), [(3, "")]),  # the end was not seen: nothing is behind it
        ((0, 1, 5), [(2, "89")]),  # another reading was longer
    ],
)
def test_of_a_stream_only_the_pieces_are_decoded_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: tuple[int, ...], expected: list[tuple[int, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    members = [f"{number}.png" for number in range(10)]
    for member in members:
        Image.new("L", (9, 9)).save(member)
    chunk = Chunk("stream-0123456789abcdef", (Source("a.tar", SequentialContainer()),), done)
    last = expected[-1][0]
    assert decoded(tmp_path / "work", chunk, members, tmp_path) == [
        (Piece(chunk.name, number, last=number == last), [f"{member}.png" for member in some])
        for number, some in expected
    ]


@pytest.mark.parametrize("name", ["photos/a.jpg", "photos.zip!a.jpg", "./a.jpg"])
def test_a_worker_that_cannot_enter_the_folder_of_relative_paths_says_so(tmp_path: Path, name: str) -> None:
    chunk = Chunk("000000000-0123456789abcdef", (Source("/photos/b.jpg"), Source(name)))
    with pytest.raises(UsageError) as caught:
        decoded(tmp_path / "work", chunk, [], tmp_path / "gone")
    start = f"{platform.node()} cannot enter {tmp_path}/gone, in which {name} begins (No such file or directory): "
    assert str(caught.value) == f"{start}name absolute paths, or share that folder with all machines"


def test_a_worker_need_not_enter_the_folder_where_all_paths_are_absolute(tmp_path: Path) -> None:
    sources = (Source(f"{tmp_path}/b.jpg"), Source("s3://bucket/c.jpg", Failure("vanished", "is gone")))
    chunk = Chunk("000000000-0123456789abcdef", sources)
    assert decoded(tmp_path / "work", chunk, [], tmp_path / "gone") == [
        (Piece(chunk.name, 0, last=True), [source.path for source in sources])
    ]


def test_names_can_be_asked_for_again_and_come_as_others_are_finished() -> None:
    from dinoclassify.cluster.chunk_source import ChunkQueue

    todo = ChunkQueue(2)
    assert todo.after(0) == ([], False)
    todo.add("a")
    todo.add("b")
    assert todo.after(0) == (["a", "b"], False)
    assert todo.after(1) == (["b"], False)
    todo.add("c")
    todo.end()
    assert todo.after(0) == (["a", "b"], False)  # two are under way, and no more until one is finished
    todo.finish()
    assert todo.after(0) == (["a", "b", "c"], True)
    assert todo.after(3) == ([], True)


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    from dinoclassify.cluster.connection import connected

    with (
        pytest.raises(UsageError, match=r"--ray-address 127\.0\.0\.1:1: no cluster can be reached"),
        connected("127.0.0.1:1"),
    ):
        pass


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
@pytest.mark.parametrize("gpus", [0, 1])  # before the cluster of the others, which is connected until the end
def test_nothing_is_lost_or_doubled_when_a_replica_and_then_a_whole_node_die(
    gpus: int, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    """With ``gpus`` (in name only), no node is left that could take the place of the one that is lost."""
    (loads := tmp_path / "loads").mkdir()
    folder = str(tmp_path / "labels")
    with cluster_of(2, num_gpus=gpus) as cluster:

        def kill(outcomes: int) -> None:
            if outcomes == 2:
                os.kill(replicas()[0], signal.SIGKILL)
                await_loads(loads, 3)
            if outcomes == 5:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        await_loads(loads, 2)
        run(folder, tiny, job_opener(tiny, loads, 0.5), list(map(Source, image_paths)), on_outcome=kill, gpus=gpus)
    assert rows_of(folder) == rows_here(tiny, image_paths)
    assert len(list(loads.iterdir())) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_rows_are_those_of_the_local_engine_and_each_replica_opens_the_model_once(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (loads := tmp_path / "loads").mkdir()
    paths = [*image_paths, str(tmp_path / "gone.jpg")]
    await_loads(loads, 2)
    opener = job_opener(tiny, loads)
    outcomes, _ = run(str(tmp_path / "labels"), tiny, opener, [Source(path) for path in paths])
    assert rows_of(str(tmp_path / "labels")) == rows_here(tiny, paths)
    assert len(list(loads.iterdir())) == 2  # a replica on each node
    assert sum(outcome.statuses["ok"] for outcome in outcomes) == IMAGES
    assert [path for outcome in outcomes for path in outcome.failed] == paths[-1:]
    assert capfd.readouterr() == ("", "")


class Hostile:
    """A processor that does to the process what a bug in a decoder does, for images of certain widths."""

    def __call__(self, images: Any, *, return_tensors: str) -> Any:
        if images.width == 11:
            os.kill(os.getpid(), signal.SIGSEGV)
        if images.width == 22:
            time.sleep(1000)
        return {"pixel_values": [torch.zeros(3, 56, 56)]}


@by_fork
@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_an_image_that_ends_or_stops_its_decoder_costs_no_more_than_its_row(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    for width in (11, 22):
        Image.new("RGB", (width, 9)).save(tmp_path / f"{width}.png")
    paths = [*image_paths[:12], str(tmp_path / "11.png"), str(tmp_path / "22.png"), image_paths[12]]
    folder = str(tmp_path / "labels")
    run(
        folder,
        tiny,
        job_opener(tiny),
        list(map(Source, paths)),
        timeout=15.0,
        preprocessing=OpaqueProcessor(Hostile(), (56, 56)),
    )
    rows = [json.loads(line) for line in rows_of(folder).splitlines()]
    assert [row["path"] for row in rows] == paths
    assert [row["error_code"] for row in rows] == [None] * 12 + ["worker_crashed", "timeout", None]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_a_stream_is_expanded_where_it_is_read_and_comes_in_pieces(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "labels")
    sources = [
        Source(image_paths[0]),
        Source("many", SequentialContainer()),
        Source("none", SequentialContainer()),
        Source(image_paths[30]),
    ]

    def expand(source: Source) -> Iterator[Source]:
        yield from map(Source, image_paths[1:30] if source.path == "many" else [])

    outcomes, _ = run(folder, tiny, job_opener(tiny), sources, expand=expand)
    # In the same batches: in others the last digit of a score may be another.
    batches = (image_paths[:1], image_paths[1:30], image_paths[30:31])
    assert rows_of(folder) == b"".join(rows_here(tiny, some) for some in batches)
    pieces = [outcome.piece for outcome in outcomes]
    assert sorted(piece.number for piece in pieces) == [0, 0, 0, 0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_a_run_that_is_told_to_stop_leaves_what_can_be_taken_up_again(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "labels")
    sources = list(map(Source, image_paths))
    outcomes, _ = run(folder, tiny, job_opener(tiny, seconds=0.2), sources, stop=lambda: True)
    done = sum(outcome.statuses["ok"] for outcome in outcomes)
    assert 0 < done < IMAGES
    again, kept = run(folder, tiny, job_opener(tiny), sources, resume=True)
    assert done <= len(kept) < IMAGES
    assert len(kept) + sum(outcome.statuses["ok"] for outcome in again) == IMAGES
    assert rows_of(folder) == rows_here(tiny, image_paths)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_what_is_wrong_with_the_model_or_the_inputs_is_said_as_it_is_here(
    cluster: Any, image_paths: list[str], tiny: str, tmp_path: Path
) -> None:
    from dinoclassify.cluster.engine import probe_model

    with pytest.raises(ModelError, match="no-such-folder") as caught:
        probe_model(job_opener("./no-such-folder"))
    assert "\n" not in str(caught.value)

    def sources() -> Iterator[Source]:
        yield from map(Source, image_paths[:20])
        raise UsageError("the list cannot be read")

    seen: list[int] = []
    with pytest.raises(UsageError, match="the list cannot be read"):
        run(str(tmp_path / "labels"), tiny, job_opener(tiny), sources(), on_outcome=seen.append)
    assert len(seen) == 2  # chunks that were whole; the rest of 4 was never planned


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_a_driver_that_is_killed_leaves_a_run_that_another_takes_up(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "labels")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.cluster import test_ray\n"
        "from dinoclassify.cluster.connection import connected\n"
        "from dinoclassify.types.source import Source\n"
        "test_ray.chunks.CHUNK = 8\n"
        "test_ray.by_value()\n"
        "with connected(sys.argv[2]):\n"
        "    job = test_ray.job_opener(sys.argv[3], seconds=3.0)\n"
        "    test_ray.run(sys.argv[4], sys.argv[3], job, list(map(Source, sys.argv[5:])))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script, str(ROOT), cluster.address, tiny, folder, *image_paths])
    rows = Path(f"{folder}.partial", "rows")
    while driver.poll() is None and len(list(rows.glob("*/*-last"))) < 3:
        time.sleep(0.1)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    _, kept = run(folder, tiny, job_opener(tiny), list(map(Source, image_paths)), resume=True)
    assert len(kept) >= 3 * 8
    assert rows_of(folder) == rows_here(tiny, image_paths)
