"""Workers that are killed, crash or hang: each costs at most one image, and no rows are mixed up."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dinoclassify.decoding import shared_memory
from dinoclassify.decoding.batch import DecodedImage
from dinoclassify.decoding.decode import decode
from dinoclassify.decoding.loader import FeedName, load_batches
from dinoclassify.decoding.worker import MAX_RESTARTS
from dinoclassify.decoding.worker_process import init_worker
from dinoclassify.errors import WorkerError
from dinoclassify.pipeline import classify
from dinoclassify.storage.budget import Share, shares
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Source
from tests.conftest import by_fork
from tests.helpers.hostile import check, run
from tests.helpers.levels import LABELS, TINY, level_of
from tests.helpers.prepared import Program
from tests.helpers.servers import Page, web_server

pytestmark = pytest.mark.usefixtures("feed")


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_image_that_kills_its_process_is_one_failed_row(images: Path, batch_size: int, workers: int) -> None:
    names = [f"{number:03}.png" for number in range(60)]
    for position, name in [(0, "segv-001"), (7, "kill-002"), (8, "segv-003"), (9, "leave-004"), (63, "segv-005")]:
        names.insert(position, f"{name}.png")
    paths = [str(images / name) for name in [*names, "segv-006.png"]]
    crashed = dict.fromkeys(("segv", "kill", "leave"), "worker_crashed")
    check(run(paths, batch_size=batch_size, workers=workers), paths, crashed)


def test_a_process_that_dies_holding_a_lock_does_not_block_the_run(images: Path) -> None:
    paths = [str(images / name) for name in ("001.png", "002.png", "lock-003.png", "004.png", "005.png")]
    check(run(paths), paths, {"lock": "worker_crashed"})


def test_an_image_is_retried_after_its_process_was_killed(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [str(images / name) for name in ("001.png", "002.png", "once-003.png", "004.png", "once-005.png")]
    check(run(paths), paths, {})
    assert [record.getMessage() for record in caplog.records] == [
        f"a decoding process died at {path}: starting another" for path in (paths[2], paths[4])
    ]


@pytest.mark.parametrize("how", ["hang", "stop"])
def test_an_image_that_takes_too_long_is_a_timeout(images: Path, how: str) -> None:
    names = [*(f"{number:03}.png" for number in range(9)), f"{how}-001.png", "009.png", f"{how}-002.png", "010.png"]
    paths = [str(images / name) for name in names]
    started = time.monotonic()
    predictions = run(paths, timeout=1.5)
    check(predictions, paths, {how: "timeout"})
    failure = predictions[9].failure
    assert failure is not None
    assert failure.message == "took longer than 1.5 s"
    assert time.monotonic() - started < 60


def test_crashes_do_not_change_the_batches(images: Path) -> None:
    """Scores differ by rounding with the batch size: a crash must not show in them."""
    paths = [str(images / f"{number:03}.png") for number in range(10)]
    paths[1] = str(images / "once-001.png")
    paths[6] = str(images / "segv-006.png")
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000)
    assert [(len(batch.inputs), len(batch.pixels)) for batch in batches] == [(4, 4), (4, 3), (2, 2)]


def test_randomly_killed_workers_lose_no_rows(greys: Path) -> None:
    paths = [str(greys / f"{number % 250:03}.png") for number in range(2000)]
    batches = load_batches(map(Source, paths), TINY, batch_size=16, workers=2, exact=False, max_pixels=10_000)
    predictions: list[Prediction] = []
    over = threading.Event()
    killed = 0

    def kill() -> None:
        nonlocal killed
        while not over.wait(0.05):
            for process in multiprocessing.active_children()[:1]:
                process.kill()
                killed += 1
            done = len(predictions)
            while len(predictions) < done + 128 and not over.wait(0.01):
                pass  # to kill twice at the same image is to make it the guilty one

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        predictions.extend(classify(batches, level_of, LABELS))
    finally:
        over.set()
        thread.join()
    check(predictions, paths, {})
    assert killed >= 3


def test_a_process_stopped_while_idle_is_replaced(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.decoding.worker.START_TIMEOUT", 1.5)
    paths = [str(greys / f"{number:03}.png") for number in range(40)]
    batches = load_batches(
        map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000, timeout=1.5
    )
    predictions = classify(batches, level_of, LABELS)
    first = next(predictions)
    time.sleep(1)  # it has nothing to do until it is asked for more
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGSTOP)
    check([first, *predictions], paths, {})


@by_fork
def test_a_process_that_hangs_at_startup_is_replaced(
    greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: FeedName
) -> None:
    def hang_once(**options: bool) -> None:
        if not (tmp_path / "hung").exists():
            (tmp_path / "hung").touch()
            time.sleep(1000)
        init_worker(**options)

    monkeypatch.setattr("dinoclassify.decoding.worker.START_TIMEOUT", 1.5)
    monkeypatch.setattr(f"dinoclassify.decoding.feeds.{feed}_feed.init_worker", hang_once)
    paths = [str(greys / f"{number:03}.png") for number in range(10)]
    check(run(paths, workers=1, timeout=1.5), paths, {})


def test_many_hanging_images_do_not_end_the_run(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.decoding.worker.MAX_RESTARTS", 2)
    paths = [str(images / f"{name}.png") for name in ("001", *(f"hang-{number:03}" for number in range(3)), "002")]
    check(run(paths, workers=1, timeout=1), paths, {"hang": "timeout"})


class Unsendable(str):
    """A path that raises MemoryError when it is sent."""

    def __reduce__(self) -> str:
        raise MemoryError


def test_a_list_that_cannot_be_sent_fails_alone(greys: Path) -> None:
    paths = [str(greys / f"{number:03}.png") for number in range(12)]
    sources = (Source(Unsendable(path) if number == 4 else path) for number, path in enumerate(paths))
    batches = load_batches(sources, TINY, batch_size=1, workers=2, exact=False, max_pixels=10_000)
    predictions = list(classify(batches, level_of, LABELS))
    assert [prediction.path for prediction in predictions] == paths
    codes = [prediction.failure.code if prediction.failure else prediction.index for prediction in predictions]
    assert codes == [*range(4), "out_of_memory", *range(5, 12)]


@by_fork
@pytest.mark.slow
def test_time_while_the_run_is_stopped_does_not_count(images: Path) -> None:
    """Ctrl-Z, and an hour later fg."""
    script = (
        "import time\n"
        "from dinoclassify.decoding import loader\n"
        "from dinoclassify.decoding.decode import decode\n"
        "from tests.helpers.hostile import check, run\n"
        "def slow(source, **options):\n"
        "    time.sleep(0.05)\n"
        "    return decode(source, **options)\n"
        "loader.decode = slow\n"
        f"paths = [f'{images}/{{n % 60:03}}.png' for n in range(80)]\n"
        "print('started', flush=True)\n"
        "check(run(paths, workers=1, timeout=5), paths, {})\n"
    )
    command = [sys.executable, "-c", script]
    with Program(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(12)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(timeout=200) == 0


def test_too_many_crashes_in_a_row_end_the_run(images: Path) -> None:
    paths = [str(images / "001.png")] * 8 + [str(images / f"segv-{n:03}.png") for n in range(MAX_RESTARTS)]
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000)
    predictions = classify(batches, level_of, LABELS)
    assert [next(predictions).index for _ in range(8)] == [1] * 8
    with pytest.raises(WorkerError, match="32 decoding processes died in a row"):
        list(predictions)


@by_fork
def test_no_memory_for_a_batch_fails_its_rows(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = shared_memory._allocate

    def fail(descriptor: int, size: int) -> None:
        if size > 3 * (3 * 8 * 8 + 512):  # more than two images, and their facts
            raise MemoryError
        allocate(descriptor, size)

    monkeypatch.setattr("dinoclassify.decoding.shared_memory._allocate", fail)
    predictions = run([str(greys / f"{number:03}.png") for number in range(6)], workers=1)
    assert [prediction.failure and prediction.failure.code for prediction in predictions[:4]] == ["out_of_memory"] * 4
    assert [prediction.index for prediction in predictions[4:]] == [4, 5]


def test_a_dead_process_gives_back_its_memory_budget(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{'kill-' if number % 10 == 3 else ''}{number:03}.png" for number in range(40)]
    contents = {f"/{name}": Page((images / name).read_bytes()) for name in names}
    largest = max(len(page.content) for page in contents.values())
    monkeypatch.setattr("dinoclassify.decoding.loader.shares", lambda workers: shares(workers, 2 * largest))
    with web_server(contents) as site:
        sources = (Source(f"{site.url}/{name}") for name in names)
        batches = load_batches(
            sources, TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000, timeout=20, private=True
        )
        codes = [item.failure.code if item.failure else "" for batch in batches for item in batch.inputs]
    assert codes == ["worker_crashed" if name.startswith("kill") else "" for name in names]


def greedy(source: Source, **options: object) -> DecodedImage:
    """`decode`, but at a certain file the process takes the whole budget and dies."""
    if "grab" in source.path:
        for share in BUDGET[1:]:
            share.take(share.most)
            share.take_reserve()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(source, **options)  # type: ignore[arg-type]  # as they come


BUDGET: list[Share] = []


class Slow(dict[str, Page]):
    """Pages of which the first is slow."""

    def get(self, path: str, default: Page | None = None) -> Page | None:  # type: ignore[override]
        if path == "/000.png":
            time.sleep(1.5)
        return super().get(path, default)


@by_fork
def test_no_process_waits_for_the_budget_of_a_dead_one(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (greys / "000.png").read_bytes()
    BUDGET[:] = shares(2, 2 * len(content))
    monkeypatch.setattr("dinoclassify.decoding.loader.decode", greedy)
    monkeypatch.setattr("dinoclassify.decoding.loader.shares", lambda _: BUDGET)
    with web_server(Slow({"/000.png": Page(content), "/grab.png": Page(content)})) as site:
        sources = (Source(f"{site.url}/{name}.png") for name in ("000", "grab"))
        batches = load_batches(
            sources, TINY, batch_size=1, workers=2, exact=False, max_pixels=10_000, timeout=20, private=True
        )
        codes = [item.failure.code if item.failure else "" for batch in batches for item in batch.inputs]
    assert codes == ["", "worker_crashed"]
