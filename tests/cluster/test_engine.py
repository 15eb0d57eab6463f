"""The Ray engine writes the same rows as the local engine, whatever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.types.preprocessing import OpaqueProcessor
from dinoclassify.types.source import SequentialContainer, Source
from tests.conftest import ROOT, by_fork
from tests.helpers.cluster import (
    IMAGES,
    HostileProcessor,
    await_loads,
    cluster_of,
    job_opener,
    replicas,
    rows_here,
    rows_of,
    run_on_cluster,
)

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
@pytest.mark.parametrize("gpus", [0, 1])  # before the cluster of the others, which is connected until the end
def test_no_row_is_lost_or_written_twice_when_a_replica_and_then_a_node_die(
    gpus: int, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    """With ``gpus`` (in name only), no other node can replace the one that is lost."""
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
        run_on_cluster(
            folder, tiny, job_opener(tiny, loads, 0.5), list(map(Source, image_paths)), on_outcome=kill, gpus=gpus
        )
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
    outcomes, _ = run_on_cluster(str(tmp_path / "labels"), tiny, opener, [Source(path) for path in paths])
    assert rows_of(str(tmp_path / "labels")) == rows_here(tiny, paths)
    assert len(list(loads.iterdir())) == 2  # a replica on each node
    assert sum(outcome.statuses["ok"] for outcome in outcomes) == IMAGES
    assert [path for outcome in outcomes for path in outcome.failed] == paths[-1:]
    assert capfd.readouterr() == ("", "")


@by_fork
@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_an_image_that_crashes_or_hangs_its_decoder_is_one_failed_row(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    for width in (11, 22):
        Image.new("RGB", (width, 9)).save(tmp_path / f"{width}.png")
    paths = [*image_paths[:12], str(tmp_path / "11.png"), str(tmp_path / "22.png"), image_paths[12]]
    folder = str(tmp_path / "labels")
    run_on_cluster(
        folder,
        tiny,
        job_opener(tiny),
        list(map(Source, paths)),
        timeout=15.0,
        preprocessing=OpaqueProcessor(HostileProcessor(), (56, 56)),
    )
    rows = [json.loads(line) for line in rows_of(folder).splitlines()]
    assert [row["path"] for row in rows] == paths
    assert [row["error_code"] for row in rows] == [None] * 12 + ["worker_crashed", "timeout", None]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_a_stream_is_expanded_by_the_task_that_reads_it_and_its_rows_come_in_pieces(
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

    outcomes, _ = run_on_cluster(folder, tiny, job_opener(tiny), sources, expand=expand)
    # In the same batches: in others the last digit of a score may be another.
    batches = (image_paths[:1], image_paths[1:30], image_paths[30:31])
    assert rows_of(folder) == b"".join(rows_here(tiny, some) for some in batches)
    pieces = [outcome.piece for outcome in outcomes]
    assert sorted(piece.number for piece in pieces) == [0, 0, 0, 0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_a_stopped_run_can_be_resumed(cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path) -> None:
    folder = str(tmp_path / "labels")
    sources = list(map(Source, image_paths))
    outcomes, _ = run_on_cluster(folder, tiny, job_opener(tiny, seconds=0.2), sources, stop=lambda: True)
    done = sum(outcome.statuses["ok"] for outcome in outcomes)
    assert 0 < done < IMAGES
    again, kept = run_on_cluster(folder, tiny, job_opener(tiny), sources, resume=True)
    assert done <= len(kept) < IMAGES
    assert len(kept) + sum(outcome.statuses["ok"] for outcome in again) == IMAGES
    assert rows_of(folder) == rows_here(tiny, image_paths)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_errors_of_the_model_or_the_inputs_are_the_same_as_on_one_machine(
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
        run_on_cluster(str(tmp_path / "labels"), tiny, job_opener(tiny), sources(), on_outcome=seen.append)
    assert len(seen) == 2  # chunks that were whole; the rest of 4 was never planned


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts nodes and replicas slowly
def test_another_driver_resumes_the_run_of_a_killed_one(
    cluster: Any, tiny: str, image_paths: list[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "labels")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.helpers import cluster\n"
        "from dinoclassify.writers import chunks\n"
        "from dinoclassify.cluster.connection import connected\n"
        "from dinoclassify.types.source import Source\n"
        "chunks.CHUNK = 8\n"
        "cluster.by_value()\n"
        "with connected(sys.argv[2]):\n"
        "    job = cluster.job_opener(sys.argv[3], seconds=3.0)\n"
        "    cluster.run_on_cluster(sys.argv[4], sys.argv[3], job, list(map(Source, sys.argv[5:])))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script, str(ROOT), cluster.address, tiny, folder, *image_paths])
    rows = Path(f"{folder}.partial", "rows")
    while driver.poll() is None and len(list(rows.glob("*/*-last"))) < 3:
        time.sleep(0.1)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    _, kept = run_on_cluster(folder, tiny, job_opener(tiny), list(map(Source, image_paths)), resume=True)
    assert len(kept) >= 3 * 8
    assert rows_of(folder) == rows_here(tiny, image_paths)
