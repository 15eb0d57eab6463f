"""Everything bad at once: inputs that nobody can read and faults in the middle of runs. No row may be lost."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from conftest import PHOTOS, SHARED
from rich.console import Console
from rich.table import Table

NAMES = [
    b"new\nline.jpg", b"cr\r.jpg", b"tab\t.jpg", b"esc\x1b[31m.jpg", b"=1+1.jpg", b"-rf.jpg", b"[bold]x.jpg",
    b"a,b\"c.jpg", b" space .jpg", b"NA", b"bad\xff\xfe.jpg", "é.jpg".encode(), "e\u0301.jpg".encode(),
    "line\u2028.jpg".encode(), b"x" * 246 + b".jpg", b"*.jpg", b"'quoted'.jpg",
]  # fmt: skip


def predict(
    tiny: str, *arguments: str, before: Sequence[str] = (), stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*before, sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=250)


def rows(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check(done: subprocess.CompletedProcess[bytes], path: str, expected: int) -> int:
    """The rows that are lost: none, and nothing is on stderr but messages."""
    assert done.returncode in {0, 3}, done.stderr
    assert b"Traceback" not in done.stderr
    assert all(line.startswith(b"dinoclassify: ") for line in done.stderr.splitlines())
    for row in rows(path):
        assert (row["status"] == "failed") == (row["label"] == "") == (row["error_code"] != "")
    return expected - len(rows(path))


def hostile_pictures(tiny: str) -> tuple[int, int]:
    """All of the collection, as find hands it over; what is decoded is what Pillow decodes."""
    folder = SHARED / "hostile" / "pillow"
    found = subprocess.run(["find", str(folder), "-type", "f", "-print0"], capture_output=True, check=True).stdout
    done = predict(tiny, "-", "-0", "-o", "hostile.csv", "--max-pixels", "178956970", stdin=found)
    archive = str(folder / "hopper.tar")  # the one of the collection
    with tarfile.open(archive) as tar:
        members = [f"{archive}!{name}" for name in tar.getnames()]
    listed = [os.fsdecode(name) for name in found.split(b"\0")[:-1]]
    names = list(chain.from_iterable(members if name == archive else [name] for name in listed))
    lost = check(done, "hostile.csv", len(names))
    made = rows("hostile.csv")
    assert [row["path"] for row in made] == names
    outcomes = map(json.loads, (SHARED / "hostile" / "pillow-outcomes.jsonl").read_text().splitlines())
    decodes = {str(folder / item["f"]): item["ok"] for item in outcomes} | dict.fromkeys(members, True)
    assert all(decodes[row["path"]] for row in made if row["status"] == "ok" and not row["path"].endswith(".heif"))
    return len(names), lost


def hostile_tree(tiny: str) -> tuple[int, int]:
    """A folder of names and things that are not pictures, the output among them."""
    tree = Path("tree")
    (tree / "a" / "b").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(PHOTOS / "coffee.jpg", tree / os.fsdecode(name))
    (tree / "a" / "b" / "loop").symlink_to(tree.absolute())
    (tree / "self.jpg").symlink_to("self.jpg")
    (tree / "gone.jpg").symlink_to("nothing")
    os.mkfifo(tree / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("tree/socket.png")
        done = predict(tiny, "tree", "tree/NA", "tree/NA", "--follow", "-o", "tree/rows.csv")
    expected = len(NAMES) - 1 + 4 + 2  # NA is no picture by its name
    lost = check(done, "tree/rows.csv", expected)
    assert [row["error_code"] for row in rows("tree/rows.csv")].count("") == len(NAMES) - 1 + 2
    return expected, lost


def killed_runs(tiny: str) -> tuple[int, int]:
    """kill -9 of the run, and of its processes that decode, until it is done."""
    Path("list").write_text("".join(f"{path}\n" for path in sorted(PHOTOS.glob("*.jpg")) * 200))
    common = ("--files-from", "list", "-q", "--batch-size", "8", "-j", "2")
    assert predict(tiny, *common, "-o", "whole.csv").returncode == 0
    command = [sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *common, "-o", "killed.csv", "--resume"]
    faults = 0
    for attempt in range(30):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not os.path.exists("killed.csv.partial.meta.json"):
                time.sleep(0.01)
            for _ in range(3):
                time.sleep(0.25)
                children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
                for child in children.split()[:1]:
                    os.kill(int(child), signal.SIGKILL)
                    faults += 1
            if attempt < 3 and process.poll() is None:
                process.kill()
                faults += 1
        if process.returncode == 0:
            break
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes()
    return faults, len(rows("whole.csv")) - len(rows("killed.csv"))


@pytest.mark.slow
@pytest.mark.trust
def test_no_row_is_lost(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = Table("what", "tried", "rows lost", title="Bad inputs and injected faults")
    total = 0
    for what, scenario in (
        ("hostile pictures", hostile_pictures if SHARED.is_dir() else None),
        ("names, links, pipes and sockets", hostile_tree),
        ("kill -9 of runs and of processes that decode", killed_runs),
    ):
        if scenario is None:
            table.add_row(what, f"skipped: {SHARED} is not there", "")
            continue
        tried, lost = scenario(tiny)
        table.add_row(what, f"{tried:,}", str(lost))
        total += lost
    Console(file=sys.__stderr__, width=100).print(table)
    assert total == 0
