"""A drop folder, and a watch of it in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.prepared import Program

QUICK = """
from dinoclassify.discovery import watch
from dinoclassify.writers import heartbeat
watch.PAUSE, watch.SETTLED, heartbeat.EVERY = 0.1, 0.2, 0.5
"""
HEADER = "path,status,label,score,index,error_code,error,size,mtime_ns"


@contextmanager
def start(*arguments: str, before: Sequence[str] = (), script: str = QUICK) -> Iterator[subprocess.Popen[str]]:
    """A watch in a process of its own, which does not outlive a test that fails. ``script`` runs first.

    It pauses less between two polls than it does elsewhere.
    """
    program = f"{script}\nfrom dinoclassify.__main__ import main\nmain()"
    watch = ["predict", "--watch", "inbox", "-m", "builtin", "-j", "1", *arguments]
    command = [*before, sys.executable, "-c", program, *watch]
    start = subprocess.Popen if before else Program  # which heeds hang-ups of itself
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_hang_ups) as process:
        try:
            yield process
        finally:
            process.kill()


def heed_hang_ups() -> None:
    """SIGHUP is not ignored, though the tests themselves may be run by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def drop(name: str, photo: str = "coffee") -> None:
    shutil.copy(PHOTOS / f"{photo}.jpg", f"inbox/.{name}")
    os.rename(f"inbox/.{name}", f"inbox/{name}")


def wait_for(rows: int, name: str = "labels.csv") -> list[list[str]]:
    for _ in range(2400):  # two minutes, on a busy machine
        lines = []
        with suppress(FileNotFoundError):  # before its first row, or others have renamed it
            lines = Path(name).read_text().splitlines()
        if len(lines) > rows:
            return [line.split(",") for line in lines[1:]]
        time.sleep(0.05)
    pytest.fail(f"{rows} rows did not come")
