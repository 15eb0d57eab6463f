"""Processes that are killed, crash or hang: each costs at most the image it is at, and nothing is mixed up."""

import gc
import itertools
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from dinoclassify.decoding import loader
from dinoclassify.decoding.batch import Batch, DecodedImage
from dinoclassify.decoding.decode import decode
from dinoclassify.decoding.loader import load_batches
from dinoclassify.decoding.worker import RESTARTS, Worker
from dinoclassify.decoding.worker_process import init_worker
from dinoclassify.errors import UsageError, WorkerError
from dinoclassify.pipeline import classify
from dinoclassify.storage.budget import Share, shares
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS, ROOT, by_fork
from tests.helpers.servers import Page, web_server
from tests.test_pipeline import LABELS, TINY, Levels, greys, level_of

__all__ = ["greys", "loader"]  # a fixture, and what scripts use


def hostile(source: Source, **options: object) -> DecodedImage:
    """`decode`, but for files of certain names: what a decoder with a bug, or the system, may do to a process."""
    name = os.path.basename(source.path)
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("leave"):
        os._exit(0)
    if name.startswith("once") and not os.path.exists(source.path + ".seen"):
        Path(source.path + ".seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("collect"):
        gc.collect()
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if name.startswith("lock"):
        frame = sys._getframe()
        while "done_event" not in frame.f_locals:  # up to torch's loop
            frame = frame.f_back or frame
        shared = frame.f_locals
        shared["index_queue"]._rlock.acquire()
        shared["data_queue"]._wlock.acquire()
        if hasattr(shared["done_event"], "_cond"):  # as multiprocessing's own has
            shared["done_event"]._cond.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(source, **options)  # type: ignore[arg-type]  # as they come


def run(
    paths: list[str], *, batch_size: int = 4, workers: int = 2, timeout: float = 60, live: bool = False
) -> list[Prediction]:
    sources = map(Source, paths)
    batches = load_batches(
        sources,
        TINY,
        batch_size=batch_size,
        workers=workers,
        exact=False,
        max_pixels=10_000,
        timeout=timeout,
        live=live,
    )
    return list(classify(batches, level_of, LABELS))


@pytest.fixture
def images(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images n.png of level n, and of the same under names that `hostile` knows."""
    monkeypatch.setattr("dinoclassify.decoding.loader.decode", hostile)
    for name in ("segv", "kill", "leave", "once", "hang", "stop", "lock", "collect"):
        for number in range(40):
            (tmp_path / f"{name}-{number:03}.png").symlink_to(greys / f"{number:03}.png")
    for number in range(60):
        (tmp_path / f"{number:03}.png").symlink_to(greys / f"{number:03}.png")
    return tmp_path


def check(predictions: list[Prediction], paths: list[str], codes: dict[str, str]) -> None:
    """Every input has its own answer, but those whose names begin so have failed so."""
    assert [prediction.path for prediction in predictions] == paths
    for prediction in predictions:
        assert prediction.size == os.path.getsize(prediction.path), "so that a later run knows it again"
        name = os.path.basename(prediction.path)
        code = next((code for start, code in codes.items() if name.startswith(start)), None)
        assert (prediction.failure.code if prediction.failure else None) == code, name
        assert code is not None or prediction.index == int(name[-7:-4]), name


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_image_that_ends_its_process_is_a_row(images: Path, batch_size: int, workers: int) -> None:
    names = [f"{number:03}.png" for number in range(60)]
    for position, name in [(0, "segv-001"), (7, "kill-002"), (8, "segv-003"), (9, "leave-004"), (63, "segv-005")]:
        names.insert(position, f"{name}.png")
    paths = [str(images / name) for name in [*names, "segv-006.png"]]
    crashed = dict.fromkeys(("segv", "kill", "leave"), "worker_crashed")
    check(run(paths, batch_size=batch_size, workers=workers), paths, crashed)


def test_a_process_that_dies_with_a_lock_is_not_waited_for(images: Path) -> None:
    paths = [str(images / name) for name in ("001.png", "002.png", "lock-003.png", "004.png", "005.png")]
    check(run(paths), paths, {"lock": "worker_crashed"})


def test_an_image_is_tried_again_when_its_process_was_killed(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [str(images / name) for name in ("001.png", "002.png", "once-003.png", "004.png", "once-005.png")]
    check(run(paths), paths, {})
    assert [record.getMessage() for record in caplog.records] == [
        f"a process that decodes died at {path}: starting another" for path in (paths[2], paths[4])
    ]


@pytest.mark.parametrize("how", ["hang", "stop"])
def test_an_image_that_takes_too_long_is_a_row(images: Path, how: str) -> None:
    names = [*(f"{number:03}.png" for number in range(9)), f"{how}-001.png", "009.png", f"{how}-002.png", "010.png"]
    paths = [str(images / name) for name in names]
    started = time.monotonic()
    predictions = run(paths, timeout=3)
    check(predictions, paths, {how: "timeout"})
    failure = predictions[9].failure
    assert failure is not None
    assert failure.message == "took longer than 3 s"
    assert time.monotonic() - started < 60


def test_batches_stay_as_they_were(images: Path) -> None:
    """Scores may differ by rounding with the size of the batch: a death must not show in them."""
    paths = [str(images / f"{number:03}.png") for number in range(10)]
    paths[1] = str(images / "once-001.png")
    paths[6] = str(images / "segv-006.png")
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000)
    assert [(len(batch.inputs), len(batch.pixels)) for batch in batches] == [(4, 4), (4, 3), (2, 2)]


def test_workers_killed_at_random_cost_nothing(greys: Path) -> None:
    paths = [str(greys / f"{number % 250:03}.png") for number in range(4000)]
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


def test_an_idle_process_that_is_stopped_is_replaced(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.decoding.worker.START", 3.0)
    paths = [str(greys / f"{number:03}.png") for number in range(40)]
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000, timeout=3)
    predictions = classify(batches, level_of, LABELS)
    first = next(predictions)
    time.sleep(2)  # it has nothing to do until it is asked for more
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGSTOP)
    check([first, *predictions], paths, {})


@by_fork
def test_a_process_that_hangs_at_its_start_is_replaced(
    greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_once(number: int, **options: bool) -> None:
        if not (tmp_path / "hung").exists():
            (tmp_path / "hung").touch()
            time.sleep(1000)
        init_worker(number, **options)

    monkeypatch.setattr("dinoclassify.decoding.worker.START", 3.0)
    monkeypatch.setattr("dinoclassify.decoding.worker.init_worker", hang_once)
    paths = [str(greys / f"{number:03}.png") for number in range(10)]
    check(run(paths, workers=1, timeout=3), paths, {})


@by_fork
def test_a_signal_to_all_processes_is_answered_by_one(
    greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one has only just begun, and has the handlers of the other."""

    def interrupted(number: int, **options: bool) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        init_worker(number, **options)

    before = signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "answered").touch())
    monkeypatch.setattr("dinoclassify.decoding.worker.init_worker", interrupted)
    paths = [str(greys / f"{number:03}.png") for number in range(10)]
    try:
        check(run(paths, workers=1), paths, {})
        assert not (tmp_path / "answered").exists()
        signal.raise_signal(signal.SIGTERM)
        assert (tmp_path / "answered").exists(), "this process hears it"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_many_images_that_hang_do_not_end_the_run(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.decoding.worker.RESTARTS", 2)
    paths = [str(images / f"{name}.png") for name in ("001", *(f"hang-{number:03}" for number in range(4)), "002")]
    check(run(paths, workers=1, timeout=2), paths, {"hang": "timeout"})


def test_nothing_is_left_of_lists_that_a_dead_process_has_not_read(images: Path) -> None:
    """They may be larger than a pipe: a thread that waits for room in it ends with the process."""
    content = (images / "001.png").read_bytes() + bytes(1 << 18)
    threads = files = 0
    for number in range(4):
        if number == 1:  # the first opens what stays
            threads, files = threading.active_count(), len(os.listdir("/dev/fd"))
        sources = (Source(f"{number}.png", content=content) for number in range(100))
        batches = load_batches(sources, TINY, batch_size=8, workers=2, exact=False, max_pixels=10_000)
        next(batches)
        batches.close()  # type: ignore[attr-defined]  # it is a generator
        time.sleep(0.5)
    until = time.monotonic() + 60
    while threading.active_count() > threads or len(os.listdir("/dev/fd")) > files:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_program_that_has_not_ignored_sigpipe_outlives_a_process_that_dies(greys: Path) -> None:
    """As it is after ``signal(SIGPIPE, SIG_DFL)``: who writes to a process that is dead is ended."""
    script = (
        "import signal\n"
        "from tests.decoding.test_workers import Source, TINY, hostile, load_batches, loader\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "loader.decode = hostile\n"
        "sources = (Source('killed.png', content=bytes(1 << 18)) for _ in range(8))\n"
        "batches = load_batches(sources, TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000)\n"
        "print(sum(item.failure.code == 'worker_crashed' for batch in batches for item in batch.inputs))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=200, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, b"8\n"), done.stderr


class Unsendable(str):
    """A path for which there is no memory when it is sent."""

    def __reduce__(self) -> str:
        raise MemoryError


def test_a_list_that_cannot_be_sent_fails_alone_and_shifts_no_rows(greys: Path) -> None:
    paths = [str(greys / f"{number:03}.png") for number in range(12)]
    sources = (Source(Unsendable(path) if number == 4 else path) for number, path in enumerate(paths))
    batches = load_batches(sources, TINY, batch_size=1, workers=2, exact=False, max_pixels=10_000)
    predictions = list(classify(batches, level_of, LABELS))
    assert [prediction.path for prediction in predictions] == paths
    codes = [prediction.failure.code if prediction.failure else prediction.index for prediction in predictions]
    assert codes == [*range(4), "out_of_memory", *range(5, 12)]


@by_fork
@pytest.mark.slow
def test_time_in_which_all_is_stopped_does_not_count(images: Path) -> None:
    """Ctrl-Z, and an hour later fg."""
    script = (
        "import sys, tests.decoding.test_workers as t, dinoclassify.decoding.loader as loader\n"
        "def slow(source, **options):\n"
        "    t.time.sleep(0.05)\n"
        "    return t.decode(source, **options)\n"
        "loader.decode = slow\n"
        f"paths = [f'{images}/{{n % 60:03}}.png' for n in range(80)]\n"
        "print('started', flush=True)\n"
        "t.check(t.run(paths, workers=1, timeout=5), paths, {})\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(12)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(timeout=200) == 0


def test_a_process_leaves_alone_what_is_garbage_of_the_one_that_started_it(images: Path) -> None:
    """It has a copy of all that: the processes of another run must not be killed, nor be told to end, by it."""
    paths = [str(images / f"{number:03}.png") for number in range(60)]
    gc.disable()
    try:
        batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000)
        next(batches)
        (before,) = multiprocessing.active_children()
        cycle: list[object] = [batches]
        cycle.append(cycle)
        del batches, cycle
        run([str(images / f"collect-{number:03}.png") for number in range(8)])
        assert multiprocessing.active_children() == [before]
        assert before.is_alive()
    finally:
        gc.enable()
        gc.collect()


def test_a_process_of_the_program_is_none_of_its_own(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though another thread has begun it in the same moment."""
    others: list[multiprocessing.process.BaseProcess] = []
    loader = DataLoader.__iter__

    def begin(self: DataLoader[object]) -> object:
        others.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,)))
        others[-1].start()
        return loader(self)

    monkeypatch.setattr(DataLoader, "__iter__", begin)
    try:
        paths = [str(greys / f"{number:03}.png") for number in range(20)]
        check(run(paths), paths, {})
        assert len(others) == 2
        assert all(other.is_alive() for other in others)
    finally:
        for other in others:
            other.kill()
            other.join()


def test_too_many_deaths_in_a_row_end_the_run(images: Path) -> None:
    paths = [str(images / "001.png")] * 8 + [str(images / f"segv-{n:03}.png") for n in range(RESTARTS)]
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000)
    predictions = classify(batches, level_of, LABELS)
    assert [next(predictions).index for _ in range(8)] == [1] * 8
    with pytest.raises(WorkerError, match="32 processes that decode died in a row"):
        list(predictions)


def test_no_list_is_empty_and_an_idle_worker_gets_what_has_come(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many workers there are: an image that comes alone waits for none of them."""
    sent: list[tuple[int, bool]] = []
    send = Worker.send

    def note(self: Worker, sources: list[Source]) -> None:
        sent.append((len(sources), self.is_idle))
        send(self, sources)

    monkeypatch.setattr(Worker, "send", note)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    sources = map(Source, iter(asked.get, ""))
    batches = load_batches(sources, TINY, batch_size=4, workers=12, exact=False, max_pixels=10_000, live=True)
    for _ in range(6):
        asked.put(str(greys / "009.png"))
        while not (batch := next(batches)).inputs:
            pass
        assert len(batch.inputs) == 1
    asked.put("")
    assert not any(batch.inputs for batch in batches)
    assert sent == [(1, True)] * 6


def test_the_lists_of_a_busy_worker_are_full(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a list to fill, while it has another: full batches are what a runtime is fast with."""
    sent: list[int] = []
    send = Worker.send

    def note(self: Worker, sources: list[Source]) -> None:
        sent.append(len(sources) if not self.is_idle else 0)
        send(self, sources)

    monkeypatch.setattr(Worker, "send", note)
    predictions = run([str(greys / f"{number % 250:03}.png") for number in range(400)], workers=2, live=True)
    assert [prediction.index for prediction in predictions] == [number % 250 for number in range(400)]
    assert {size for size in sent if size} == {4}


def test_live_inputs_keep_the_runtime_as_busy_as_others(greys: Path) -> None:
    sources = [Source(str(greys / f"{number % 250:03}.png")) for number in range(400)]
    batches = load_batches(sources, TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000, live=True)
    predictions = list(classify(batches, runtime := Levels(ahead=2), LABELS))
    assert [prediction.index for prediction in predictions] == [number % 250 for number in range(400)]
    assert runtime.most_under_way == 3


def test_a_run_goes_on_when_the_thread_that_began_it_ends(greys: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [str(greys / f"{number:03}.png") for number in range(40)]
    batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000)
    first: list[Batch] = []
    thread = threading.Thread(target=lambda: first.append(next(batches)))
    thread.start()
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():  # the thread of the system ends a moment later
        time.sleep(0.01)
    check(list(classify(itertools.chain(first, batches), level_of, LABELS)), paths, {})
    assert caplog.records == [], "no process was lost"


def test_processes_of_a_thread_end_when_the_program_is_killed(greys: Path) -> None:
    """All at once: none waits until those that were begun after it have ended, which hold its pipes open."""
    script = (
        "import os, queue, signal, sys, threading\n"
        "from tests.decoding.test_workers import Source, TINY, load_batches\n"
        "asked = queue.SimpleQueue()\n"
        "asked.put(sys.argv[1])\n"
        "batches = load_batches(map(Source, iter(asked.get, '')), TINY, batch_size=4, workers=8, exact=False,"
        " max_pixels=10_000, live=True)\n"
        "def first():\n"
        "    while not next(batches).inputs:\n"
        "        pass\n"
        "thread = threading.Thread(target=first)\n"
        "thread.start()\n"
        "thread.join()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(greys / "001.png")]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=200, cwd=ROOT)
    assert time.monotonic() - started < 35, "one after the other they take 5 s each"
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b""), "all that had stdout have ended"


@pytest.mark.parametrize(("method", "is_in_thread"), [("fork", True), ("spawn", False), ("forkserver", False)])
def test_a_process_that_reads_ends_with_its_program(method: str, is_in_thread: bool) -> None:
    """Also in the middle of a read, and where it is not the program's main thread that has started it."""
    script = (
        "import multiprocessing, sys, threading\n"
        "from tests.decoding.test_workers import Source, TINY, load_batches\n"
        "def read():\n"
        "    batches = load_batches([Source(sys.argv[2])], TINY, batch_size=1, workers=1, exact=False,"
        " max_pixels=10_000, timeout=1000, private=True)\n"
        "    next(batches)\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method(sys.argv[1])\n"
        "    if sys.argv[3] == 'True':\n"
        "        thread = threading.Thread(target=read)\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "    else:\n"
        "        read()\n"
    )
    with web_server({"/silent.png": Page()}) as site:
        site.faults.delay = 240
        command = [sys.executable, "-c", script, method, f"{site.url}/silent.png", str(is_in_thread)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            deadline = time.monotonic() + 100
            while not site.faults.asked:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.kill()
            said, _ = process.communicate(timeout=60)
            assert said == b"", "all that had stdout have ended"


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        ("", "ForkProcess"),
        ("fork", "ForkProcess"),
        ("spawn", "SpawnProcess"),
        ("forkserver", "ForkProcess" if sys.version_info >= (3, 14) else "ForkServerProcess"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_processes_are_forked_unless_the_program_has_chosen_otherwise(greys: Path, chosen: str, used: str) -> None:
    """Python 3.14 has another default, `forkserver`, with which each process would import torch anew."""
    script = (
        "import multiprocessing, sys\n"
        "from tests.decoding.test_workers import Source, TINY, load_batches\n"
        "if __name__ == '__main__':\n"
        "    if sys.argv[1]:\n"
        "        multiprocessing.set_start_method(sys.argv[1])\n"
        "    batches = load_batches([Source(sys.argv[2])] * 2, TINY, batch_size=1, workers=1, exact=False,"
        " max_pixels=10_000)\n"
        "    print(len(next(batches).pixels), *{type(child).__name__ for child in multiprocessing.active_children()})\n"
    )
    command = [sys.executable, "-c", script, chosen, str(greys / "001.png")]
    environment = {name: value for name, value in os.environ.items() if name != "START_METHOD"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT, env=environment)
    assert (done.stdout, done.stderr) == (f"1 {used}\n", "")


@by_fork
def test_no_memory_for_a_batch_is_said_in_its_rows(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.stack

    def fail(arrays: list[np.ndarray], **options: object) -> np.ndarray:
        if len(arrays) == 4:
            raise MemoryError
        return stack(arrays, **options)  # type: ignore[call-overload,no-any-return]  # as they come

    monkeypatch.setattr("numpy.stack", fail)
    predictions = run([str(greys / f"{number:03}.png") for number in range(6)], workers=1)
    assert [prediction.failure and prediction.failure.code for prediction in predictions[:4]] == ["out_of_memory"] * 4
    assert [prediction.index for prediction in predictions[4:]] == [4, 5]


def test_a_program_ends_though_it_holds_rows_it_has_not_asked_for(greys: Path, tiny: str) -> None:
    """Also where an error ends it, which keeps all that the program held."""
    script = (
        "import sys; from dinoclassify import Classifier;"
        "rows = Classifier(sys.argv[1]).predict(sys.argv[2:], batch_size=8, workers=2);"
        "print(next(rows).status); raise ValueError('of the program')"
    )
    paths = [str(greys / f"{level:03}.png") for level in range(200)]
    command = [sys.executable, "-c", script, tiny, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (1, "ok\n")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("\nValueError: of the program\n")  # no library has more to say
    assert done.stderr.count("Traceback") == 1


def test_the_end_of_a_process_that_a_program_has_forked_is_not_its_own(greys: Path, tiny: str) -> None:
    script = (
        "import os, sys\n"
        "from dinoclassify import Classifier\n"
        "rows = Classifier(sys.argv[1], runtime='torch').predict(sys.argv[2:], batch_size=8, workers=2)\n"
        "next(rows)\n"
        "if (child := os.fork()) == 0:\n"
        "    import atexit; atexit._run_exitfuncs(); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(len(list(rows)))\n"
    )
    paths = [str(greys / f"{level:03}.png") for level in range(200)]
    done = subprocess.run([sys.executable, "-c", script, tiny, *paths], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, "199\n"), done.stderr
    assert "starting another" not in done.stderr


@by_fork
def test_processes_that_cannot_be_started_are_said(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", fail)
    with pytest.raises(WorkerError, match=r"cannot start a process that decodes: .*unavailable; try fewer --workers"):
        run([str(greys / "001.png")])


def test_open_files_are_counted_first(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (64, 64)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    with pytest.raises(UsageError, match=r"100 workers need 1\d{3} open files of 64 allowed"):
        run([str(greys / "001.png")], workers=100)
    limits["now"] = (30, 4096)
    assert run([str(greys / "001.png")])[0].index == 1
    soft, hard = limits["now"]
    assert (soft > 40, hard) == (True, 4096)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [
        ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"],
        ["prlimit", "--nofile=64"],
        ["unshare", "-n"],
        ["env", "-u", "HOME", "XDG_CACHE_HOME=/proc/nowhere", "TERM=dumb"],
    ],
    ids=["a small /dev/shm", "few open files", "no network", "no home and no cache"],
)
def test_poor_surroundings(limits: list[str], tiny: str, tmp_path: Path) -> None:
    if shutil.which(limits[0]) is None or subprocess.run([*limits, "true"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(limits[:3])} does not work here")
    paths = [str(path) for path in sorted(PHOTOS.glob("*.jpg"))] * 20
    command = [*limits, sys.executable, "-m", "dinoclassify", "predict", *paths, "-m", tiny, "-j", "2", "-q"]
    done = subprocess.run([*command, "-o", str(tmp_path / "out.csv")], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").read_text().count("\n") == 101


def test_no_room_in_dev_shm_at_all_is_one_line(tiny: str) -> None:
    script = 'mount -t tmpfs -o size=16k tmpfs /dev/shm && exec "$@"'
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = [sys.executable, "-m", "dinoclassify", "predict", str(PHOTOS), "-m", tiny, "-j", "8"]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"cannot start a process that decodes: [Errno 28] No space left on device; try fewer" in done.stderr


def test_what_a_dead_process_held_of_the_budget_is_free_again(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """`decode`, but a process that comes to a certain file takes all of the budget with it when it dies."""
    if "grab" in source.path:
        for share in BUDGET[1:]:
            share.take(share.most)
            share.take_other_half()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(source, **options)  # type: ignore[arg-type]  # as they come


BUDGET: list[Share] = []


class Slow(dict[str, Page]):
    """Pages of which the first takes its time."""

    def get(self, path: str, default: Page | None = None) -> Page | None:  # type: ignore[override]
        if path == "/000.png":
            time.sleep(1.5)
        return super().get(path, default)


@by_fork
def test_nobody_waits_for_what_a_dead_process_held(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@by_fork
def test_a_process_whose_parent_died_while_it_was_begun_ends() -> None:
    reader, writer = os.pipe()
    if not (middle := os.fork()):
        process = multiprocessing.get_context("fork").Process(target=begin_late, args=(writer,))
        process.start()
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    with open(reader, "rb") as file:
        assert file.read() == b"begun", "it has ended, and so the pipe has"


def begin_late(writer: int) -> None:
    os.write(writer, b"begun")
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join(20)
    init_worker(0)
    os.write(writer, b" and lives")
    os._exit(0)
