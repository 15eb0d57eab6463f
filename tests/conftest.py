"""Fixtures shared by the tests."""

import atexit
import fcntl
import gc
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from pathlib import Path
from subprocess import PIPE
from typing import BinaryIO

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported; tests of the network set it for themselves
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("DINOCLASSIFY_")]:
    del os.environ[name]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads spin, for longer than they compute
kept = tempfile.mkdtemp(prefix="dinoclassify-tests-")  # by the processes of the tests, and not in anybody's home
if "PYTEST_XDIST_WORKER" not in os.environ:  # whose workers share what is costly to make
    os.environ["XDG_CACHE_HOME"] = f"{kept}/cache"
os.environ["XDG_STATE_HOME"] = f"{kept}/state"
atexit.register(shutil.rmtree, kept, ignore_errors=True)

settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "tests" / "photos"
SHARED = ROOT.parent / "shared" / "data"
CHECKPOINTS = Path(os.environ["XDG_CACHE_HOME"], "checkpoints")  # of all workers

MEMORY = Path("/dev/shm")  # on Linux a file system in memory

START_METHOD = os.environ.get("START_METHOD", "fork")  # of processes that decode; see start_method/sitecustomize.py
by_fork = pytest.mark.skipif(START_METHOD != "fork", reason="what the test changes reaches a process by fork alone")

UNDO = {  # EXIF orientation -> how an upright image is stored under it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

Cli = Callable[..., subprocess.CompletedProcess[bytes]]
Refuse = Callable[[int | None], None]  # an error number, or None for the file system as it is


def pytest_configure(config: pytest.Config) -> None:
    """Fast tests write to memory, if there is room, and slow ones to the disk."""
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.markexpr != "not slow":
        return
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
        folder = tempfile.mkdtemp(prefix="tests-", dir=MEMORY)  # short, for the names of sockets
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder


def pytest_xdist_auto_num_workers() -> int:
    """One process more than processors, for tests often wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What has been imported stays: let the garbage collector, in forked processes too, pass over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log reaches pytest, whatever a command that ran in this process has made of it."""
    log = logging.getLogger("dinoclassify")
    log.setLevel(logging.NOTSET)  # no mere attribute: what a logger has answered before is kept
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "disabled", False)


@pytest.fixture(autouse=True)
def _fork_server() -> Iterator[None]:
    """Each test has a fork server of its own: one has the environment in which it was begun."""
    yield
    if START_METHOD == "forkserver":
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # no public way


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A drop folder, in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that nobody can write, root included; and a folder for temporary files."""

    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("dinoclassify.storage.cache.folder._temporary_for", {})
    monkeypatch.setattr("dinoclassify.storage.cache.folder._warned_about", set())
    return tmp_path / "temporary"


@pytest.fixture
def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Make the file system answer every lock with an error, or lock again."""
    real = fcntl.flock

    def refuse(number: int | None) -> None:
        def flock(descriptor: int, operation: int) -> None:
            if number is None:
                return real(descriptor, operation)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return refuse


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of a watch in this process are a twentieth of what they are elsewhere."""
    from dinoclassify.discovery import watch

    for name in ("PAUSE", "SETTLED"):
        monkeypatch.setattr(watch, name, getattr(watch, name) / 20)


@pytest.fixture(scope="session")
def checkpoints() -> Callable[[str], Path]:
    """Family -> a folder with a tiny checkpoint of it, made at first need. Not to be changed."""
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)

    def get(family: str) -> Path:
        folder = CHECKPOINTS / family
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                from tests.helpers.checkpoints import save_checkpoint  # takes seconds

                new = CHECKPOINTS / f"{family}.new"
                save_checkpoint(family, new)
                new.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def tiny(checkpoints: Callable[[str], Path]) -> str:
    """The path of a tiny DINOv2 classifier."""
    return str(checkpoints("dinov2"))


@pytest.fixture(scope="session")
def multi_label(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a tiny multi-label classifier of 7 classes. 3 to 5 of them are likely for each sample image."""
    from tests.helpers.checkpoints import save_multi_label

    return save_multi_label(tiny, tmp_path_factory.mktemp("multi-label") / "model")


@pytest.fixture(scope="session")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 256 images, each grey of the level that its name says. Not to be changed."""
    folder = tmp_path_factory.mktemp("greys")
    for level in range(256):
        Image.new("L", (9, 9), level).save(folder / f"{level:03}.png")
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The folder of data that is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture
def stdin() -> Iterator[Callable[[bytes], None]]:
    """Give content to the standard input of this process, for a command that runs in it."""
    before = os.dup(0)

    def give(content: bytes) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            os.dup2(file.fileno(), 0)

    yield give
    os.dup2(before, 0)
    os.close(before)


@pytest.fixture
def cli() -> Cli:
    """Run the command as a user does, in a process of its own; in one that starts afresh if it gets another ``env``."""
    from tests.helpers.prepared import Program

    def run(
        *arguments: str | Path, stdin: BinaryIO | bytes | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "dinoclassify", *map(str, arguments)]
        start = Program[bytes] if env is None else subprocess.Popen[bytes]
        content, source = (stdin, PIPE) if isinstance(stdin, bytes) else (None, stdin)
        with start(command, stdin=source, stdout=PIPE, stderr=PIPE, env=os.environ | (env or {})) as process:
            try:
                out, err = process.communicate(content, timeout=250)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run
