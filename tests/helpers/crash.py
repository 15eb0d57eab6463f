"""Processes that are killed before a chosen change of the disk."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dinoclassify.storage import rename
from tests.conftest import ROOT
from tests.helpers import prepared

# Without fsync: what a process has written outlives the process, on the disk or not.
_CHANGES = [
    "link",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "mkdir",
    "symlink",
    "write",
    "ftruncate",
    "sendfile",
    "utime",
]


def size_of(path: str | Path) -> int:
    """The size of a file that another process writes; 0 where there is none, or none any more."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def nothing_is_left_of(group: int) -> bool:
    """Whether the processes of a group end, in half a minute at most: on a busy machine they need some time to die."""
    for _ in range(300):
        found = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True).stdout
        if not [line for line in found.splitlines() if line.split()[0] == str(group) and "Z" not in line]:
            return True
        time.sleep(0.1)
    return False


def in_small_process(work: Callable[..., object], *arguments: object) -> None:
    """Do the work in a process of its own, which is quick to fork: that of the tests has grown large."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def count_kills(script: str, *arguments: str, timeout: float) -> int:
    """How many times a script, which prints it, was killed. It runs in a small process, and may import the tests."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


# Ends the run as the given signal does after so many new rows, in a process whose folders have small pieces.
_END = """
import os, signal, sys
from dinoclassify import cli
from dinoclassify.writers.tally import Tally
from dinoclassify.writers import chunks

kind, rows, piece = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chunks.CHUNK = piece
real = Tally.add

def add(tally, row):
    real(tally, row)
    if tally.made == rows:
        os.kill(os.getpid(), getattr(signal, kind))

Tally.add = add
sys.exit(cli.run(sys.argv[4:]))
"""


def ended_by(kind: str, rows: int, *arguments: str, piece: int = 4) -> int:
    """Run the command in a process that a signal ends after so many new rows: its exit code."""
    command = [sys.executable, "-c", _END, kind, str(rows), str(piece), *arguments]
    return prepared.run(command, timeout=120).returncode


def killed_at(step: int, work: Callable[[], object], *stores: Any, fsync: bool = False) -> bool:
    """Do the work in a process that is killed before its change number ``step``; False if it has fewer.

    Args:
        step: from 0 on.
        work: which must not fail.
        stores: classes of file systems whose changes count, too.
        fsync: count it, too.
    """
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, f"the work failed before step {step}"
        return status != 0
    left = [step]

    def deadly(change: Callable[..., object]) -> Callable[..., object]:
        def maybe(*arguments: object, **options: object) -> object:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return change(*arguments, **options)

        return maybe

    for name in [*_CHANGES, "fsync"] if fsync else _CHANGES:
        setattr(os, name, deadly(getattr(os, name)))
    for store in stores:
        for name in ("pipe_file", "put_file", "rm_file"):
            setattr(store, name, deadly(getattr(store, name)))
    rename._renameat2 = deadly(rename._renameat2)  # type: ignore[assignment]  # the same, once killed
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os.abort()
    os._exit(0)
