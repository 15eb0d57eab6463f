"""Decoding processes end with their program, and harm nothing else of it."""

import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from dinoclassify.decoding import loader, process_start, worker
from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.loader import FeedName, load_batches
from dinoclassify.decoding.worker_process import init_worker
from dinoclassify.errors import WorkerError
from dinoclassify.pipeline import classify
from dinoclassify.types.source import Source
from tests.conftest import by_fork
from tests.helpers import prepared
from tests.helpers.hostile import check, run
from tests.helpers.levels import LABELS, TINY, level_of
from tests.helpers.servers import Page, web_server

pytestmark = pytest.mark.usefixtures("feed")


@by_fork
def test_only_the_main_process_answers_signals(
    greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: FeedName
) -> None:
    """Even right after a fork, while the process still has the main one's handlers."""

    def interrupted(**options: bool) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        init_worker(**options)

    before = signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "answered").touch())
    monkeypatch.setattr(f"dinoclassify.decoding.feeds.{feed}_feed.init_worker", interrupted)
    paths = [str(greys / f"{number:03}.png") for number in range(10)]
    try:
        check(run(paths, workers=1), paths, {})
        assert not (tmp_path / "answered").exists()
        signal.raise_signal(signal.SIGTERM)
        assert (tmp_path / "answered").exists(), "this process hears it"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_threads_and_files_are_freed_when_a_run_is_closed_early(images: Path) -> None:
    """Unread lists may fill the pipe: the thread that waits for room ends with the process."""
    content = (images / "001.png").read_bytes() + bytes(1 << 18)
    threads = files = 0
    for number in range(4):
        if number == 1:  # the first opens what stays
            threads, files = threading.active_count(), len(os.listdir("/dev/fd"))
        sources = (Source(f"{number}.png", content=content) for number in range(100))
        batches = load_batches(sources, TINY, batch_size=8, workers=2, exact=False, max_pixels=10_000)
        next(batches)
        batches.close()  # type: ignore[attr-defined]  # it is a generator
        time.sleep(0.2)
    until = time.monotonic() + 60
    while threading.active_count() > threads or len(os.listdir("/dev/fd")) > files:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_crash_does_not_end_a_program_that_dies_of_sigpipe(greys: Path) -> None:
    """After ``signal(SIGPIPE, SIG_DFL)``, writing to a dead process would end the program."""
    script = (
        "import signal\n"
        "from dinoclassify.decoding import loader\n"
        "from dinoclassify.types.source import Source\n"
        "from tests.helpers.hostile import hostile\n"
        "from tests.helpers.levels import TINY\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "loader.decode = hostile\n"
        "sources = (Source('killed.png', content=bytes(1 << 18)) for _ in range(8))\n"
        "batches = loader.load_batches(sources, TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000)\n"
        "print(sum(item.failure.code == 'worker_crashed' for batch in batches for item in batch.inputs))\n"
    )
    done = prepared.run([sys.executable, "-c", script])
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


def test_garbage_collection_in_a_worker_does_not_end_another_run(images: Path) -> None:
    """A forked worker has a copy of all garbage: collecting it must not end the workers of another run."""
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


def test_processes_started_by_the_program_are_left_alone(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if another thread starts them at the same moment."""
    others: list[multiprocessing.process.BaseProcess] = []
    open_pipe = process_start.open_list_pipe

    def begin(context: BaseContext) -> object:
        others.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,)))
        others[-1].start()
        return open_pipe(context)

    monkeypatch.setattr(worker, "open_list_pipe", begin)
    try:
        paths = [str(greys / f"{number:03}.png") for number in range(20)]
        check(run(paths), paths, {})
        assert len(others) == 2
        assert all(other.is_alive() for other in others)
    finally:
        for other in others:
            other.kill()
            other.join()


def test_a_run_survives_the_thread_that_started_it(greys: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_all_processes_end_at_once_when_the_program_is_killed(greys: Path, tmp_path: Path) -> None:
    """None waits for those started after it, which hold its pipes open."""
    script = (
        "import os, queue, signal, sys, threading, time\n"
        "from dinoclassify.decoding import worker_process\n"
        "from dinoclassify.decoding.loader import load_batches\n"
        "from dinoclassify.types.source import Source\n"
        "from tests.helpers.levels import TINY\n"
        "worker_process._PARENT = 2.0\n"
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
        "open(sys.argv[2], 'w').write(str(time.monotonic()))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(greys / "001.png"), str(tmp_path / "killed")]
    done = prepared.run(command)
    seconds = time.monotonic() - float((tmp_path / "killed").read_text())
    assert seconds < 10, "one after the other they take 2 s each"
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), "all that had stdout have ended"


@pytest.mark.parametrize(("method", "is_in_thread"), [("fork", True), ("spawn", False), ("forkserver", False)])
def test_a_process_waiting_for_a_server_ends_with_its_program(method: str, is_in_thread: bool, tmp_path: Path) -> None:
    """Even in the middle of a read, and if a thread other than the main one started it."""
    script = (
        "import multiprocessing, sys, threading\n"
        "from dinoclassify.decoding import worker_process\n"
        "from dinoclassify.decoding.loader import load_batches\n"
        "from dinoclassify.types.source import Source\n"
        "from tests.helpers.levels import TINY\n"
        "worker_process._PARENT = 1.0\n"
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
    (tmp_path / "program.py").write_text(script)  # a module, which spawned processes import
    with web_server({"/silent.png": Page()}) as site:
        site.faults.delay = 240
        command = [sys.executable, "-m", "program", method, f"{site.url}/silent.png", str(is_in_thread)]
        with prepared.Program[bytes](command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
            deadline = time.monotonic() + 100
            while not site.faults.asked:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.kill()
            said, _ = process.communicate(timeout=60)
            assert said == b"", "all that had stdout have ended"


def test_a_program_can_end_with_unread_rows(greys: Path, tiny: str) -> None:
    """Even if an error ends it: the traceback keeps all objects alive."""
    script = (
        "import sys; from dinoclassify import Classifier;"
        "rows = Classifier(sys.argv[1]).predict(sys.argv[2:], batch_size=8, workers=2);"
        "print(next(rows).status); raise ValueError('of the program')"
    )
    paths = [str(greys / f"{level:03}.png") for level in range(64)]
    command = [sys.executable, "-c", script, tiny, *paths]
    done = prepared.run(command)
    assert (done.returncode, done.stdout) == (1, "ok\n")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("\nValueError: of the program\n")  # no library has more to say
    assert done.stderr.count("Traceback") == 1


def test_the_exit_of_a_forked_child_does_not_end_the_run(greys: Path, tiny: str) -> None:
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
    paths = [str(greys / f"{level:03}.png") for level in range(64)]
    done = prepared.run([sys.executable, "-c", script, tiny, *paths])
    assert (done.returncode, done.stdout) == (0, "63\n"), done.stderr
    assert "starting another" not in done.stderr


@by_fork
def test_a_process_whose_parent_died_during_startup_ends() -> None:
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
    init_worker()
    os.write(writer, b" and lives")
    os._exit(0)


@by_fork
def test_an_unexpected_error_in_a_process_ends_the_run(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError("what nobody expects")

    monkeypatch.setattr("dinoclassify.decoding.loader.decode", fail)
    with pytest.raises((WorkerError, LookupError), match="what nobody expects"):
        run([str(greys / "001.png")])


def test_a_worker_opens_no_more_files_than_are_counted_for_it(greys: Path) -> None:
    def opened(workers: int) -> int:
        paths = [str(greys / "001.png")] * 40 * workers
        batches = load_batches(map(Source, paths), TINY, batch_size=4, workers=workers, exact=False, max_pixels=10_000)
        for _ in range(8 * workers):  # until all slots are mapped
            next(batches)
        count = len(os.listdir("/dev/fd"))
        batches.close()  # type: ignore[attr-defined]  # it is a generator
        return count

    opened(1)
    before = len(os.listdir("/dev/fd"))
    assert opened(3) - before <= 3 * loader._FILES
