"""How decoding processes are started, and what is reported if they cannot be."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.errors import UsageError, WorkerError
from tests.conftest import PHOTOS, by_fork
from tests.helpers import prepared
from tests.helpers.levels import run


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_start_with_every_start_method(greys: Path, method: str) -> None:
    previous = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        levels = [prediction.index for prediction in run([str(greys / f"{n:03}.png") for n in range(7)])]
    finally:
        multiprocessing.set_start_method(previous, force=True)
    assert levels == list(range(7))


def test_workers_start_and_stop_many_times(greys: Path) -> None:
    for _ in range(30):
        assert len(run([str(greys / "001.png")], workers=1)) == 1


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
def test_processes_are_forked_unless_the_program_chose_another_method(greys: Path, chosen: str, used: str) -> None:
    """Python 3.14 defaults to `forkserver`, with which each process would import torch again."""
    script = (
        "import multiprocessing, sys\n"
        "from dinoclassify.decoding.loader import load_batches\n"
        "from dinoclassify.types.source import Source\n"
        "from tests.helpers.levels import TINY\n"
        "if __name__ == '__main__':\n"
        "    if sys.argv[1]:\n"
        "        multiprocessing.set_start_method(sys.argv[1])\n"
        "    batches = load_batches([Source(sys.argv[2])] * 2, TINY, batch_size=1, workers=1, exact=False,"
        " max_pixels=10_000)\n"
        "    print(len(next(batches).pixels), *{type(child).__name__ for child in multiprocessing.active_children()})\n"
    )
    command = [sys.executable, "-c", script, chosen, str(greys / "001.png")]
    environment = {name: value for name, value in os.environ.items() if name != "START_METHOD"}
    done = prepared.run(command, env=environment)
    assert (done.stdout, done.stderr) == (f"1 {used}\n", "")


@by_fork
def test_a_process_that_cannot_be_started_is_reported_with_a_cure(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", fail)
    with pytest.raises(WorkerError, match=r"cannot start a decoding process: .*unavailable; try fewer --workers"):
        run([str(greys / "001.png")])


def test_too_many_workers_for_the_open_file_limit_are_refused(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (64, 64)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    with pytest.raises(UsageError, match=r"100 workers need 1\d{3} open files of 64 allowed"):
        run([str(greys / "001.png")], workers=100)
    limits["now"] = (30, 4096)
    assert run([str(greys / "001.png")])[0].index == 1
    soft, hard = limits["now"]
    assert (soft > 40, hard) == (True, 4096)


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
def test_predict_works_in_a_restricted_environment(limits: list[str], tiny: str, tmp_path: Path) -> None:
    if shutil.which(limits[0]) is None or subprocess.run([*limits, "true"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(limits[:3])} does not work here")
    paths = [str(path) for path in sorted(PHOTOS.glob("*.jpg"))] * 20
    command = [*limits, sys.executable, "-m", "dinoclassify", "predict", *paths, "-m", tiny, "-j", "2", "-q"]
    done = subprocess.run([*command, "-o", str(tmp_path / "out.csv")], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").read_text().count("\n") == 101


def test_a_full_dev_shm_is_reported_in_one_line(tiny: str) -> None:
    script = 'mount -t tmpfs -o size=16k tmpfs /dev/shm && exec "$@"'
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = [sys.executable, "-m", "dinoclassify", "predict", str(PHOTOS), "-m", tiny, "--runtime", "torch"]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"cannot start a decoding process: [Errno 28] No space left on device; try fewer" in done.stderr
