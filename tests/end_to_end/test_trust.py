"""Everything bad at once: inputs that nobody can read and faults in the middle of runs. No row may be lost."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from dinoclassify.results.reader import read_predictions
from tests.conftest import PHOTOS, SHARED
from tests.helpers.crash import size_of
from tests.helpers.hostile_inputs import (
    hostile_images,
    hostile_tree,
    read_csv,
    roots_away,
    run_predict,
    spellings,
    unreadable_folders,
)
from tests.helpers.prepared import Program


def killed_runs(tiny: str) -> tuple[int, int]:
    """A run that is killed, with its decoding processes, and resumed until it is done."""
    Path("list").write_text("".join(f"{path}\n" for path in sorted(PHOTOS.glob("*.jpg")) * 200))
    common = ("--files-from", "list", "-q", "--batch-size", "8", "-j", "2")
    assert run_predict(tiny, *common, "-o", "whole.csv").returncode == 0
    command = [sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *common, "-o", "killed.csv", "--resume"]
    faults = 0
    for attempt in range(30):
        with Program(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not os.path.exists("killed.csv.partial.meta.json"):
                time.sleep(0.01)
            for _ in range(3):
                before = size_of("killed.csv.partial")  # to kill twice at one image is to make it the guilty one
                while process.poll() is None and size_of("killed.csv.partial") < before + 8_000:
                    time.sleep(0.01)
                children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
                for child in children.split()[:1]:
                    with suppress(ProcessLookupError):
                        os.kill(int(child), signal.SIGKILL)
                        faults += 1
            if attempt < 3 and process.poll() is None:
                process.kill()
                faults += 1
        if process.returncode == 0:
            break
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes()
    return faults, len(read_csv("whole.csv")) - len(read_csv("killed.csv"))


def updates_killed(tiny: str) -> tuple[int, int]:
    """Updates of a finished output of each kind, killed and resumed."""
    os.mkdir("many")
    for number in range(120):
        shutil.copy(PHOTOS / "coffee.jpg", f"many/{number:03}.jpg")
    lost = tried = 0
    for name in ("update.csv", "update.jsonl", "update.parquet", "update.db", "update/"):
        common = ("many", "-q", "--batch-size", "4")
        assert run_predict(tiny, *common, "--limit", "40", "-o", name).returncode == 0
        shutil.copytree(name, f"whole-{name}") if name.endswith("/") else shutil.copy(name, f"whole-{name}")
        if not name.endswith("/"):
            shutil.copy(f"{name}.meta.json", f"whole-{name}.meta.json")
        assert run_predict(tiny, *common, "--resume", "-o", f"whole-{name}").returncode == 0
        command = [sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *common, "-o", name, "--resume"]
        with Program(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not os.path.exists(f"{name.rstrip('/')}.partial"):
                time.sleep(0.01)
            time.sleep(0.3)
            process.kill()
        assert run_predict(tiny, *common, "-o", name).returncode in {0, 2}  # refused if there are finished rows
        assert run_predict(tiny, *common, "--resume", "-o", name).returncode == 0
        tried += 120
        expected = [(row.path, row.label) for row in read_predictions(f"whole-{name}")]
        found = [(row.path, row.label) for row in read_predictions(name)]
        lost += len(expected) - len(set(found) & set(expected)) if found != expected else 0
    return tried, lost


def too_many_failures(tiny: str) -> tuple[int, int]:
    """Forty files that are no images, and a limit of five: the output never changes, however often it is resumed."""
    shutil.copytree(PHOTOS, "failing")
    assert run_predict(tiny, "failing", "-o", "kept.csv").returncode == 0
    before = Path("kept.csv").read_bytes()
    for number in range(40):
        Path(f"failing/bad-{number}.jpg").write_text("not an image")
    codes = [
        run_predict(tiny, "failing", "-o", "kept.csv", "--resume", "--max-failures", "5").returncode for _ in range(4)
    ]
    assert codes == [7] * 4
    return 4 * len(before.splitlines()), 0 if Path("kept.csv").read_bytes() == before else 1


def planted_links(tiny: str) -> tuple[int, int]:
    """Planted links, a list with strange URL schemes, and the journal of a stranger: how many had an effect."""
    opened = 0
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        names = [f"{scheme}://{address}/a.jpg" for scheme in ("ftp", "webhdfs", "http", "simplecache::ftp", "FTP")]
        done = run_predict(tiny, "-", "-o", "schemes.csv", stdin="\n".join(names).encode())
        assert (done.returncode, len(read_csv("schemes.csv"))) == (3, len(names)), done.stderr
        with suppress(BlockingIOError):
            server.accept()
            opened += 1
    Path("victim").write_text("precious")
    for name in (
        "out.csv.partial.new",
        "out.csv.partial.meta.json.new",
        "out.csv.meta.json.new",
        "out.csv.partial.new.new",
    ):
        os.symlink("victim", name)
    assert run_predict(tiny, str(PHOTOS / "coffee.jpg"), "-o", "out.csv").returncode == 0
    opened += Path("victim").read_text() != "precious"
    os.mkdir("stranger")
    Path("stranger/loot").write_text("theirs")
    move = {"event": "move", "source": os.path.abspath("bashrc"), "target": "loot", "size": 6, "mtime_ns": 0}
    Path("stranger/undo-journal.jsonl").write_text(
        json.dumps({"event": "begin", "mode": "move"}) + "\n" + json.dumps(move)
    )
    undone = [sys.executable, "-m", "dinoclassify", "sort", "--undo", "stranger"]
    opened += subprocess.run(undone, capture_output=True, timeout=250).returncode != 2
    opened += os.path.exists("bashrc")
    return len(names) + 4 + 1, opened


def databases_in_use(tiny: str) -> tuple[int, int]:
    """Another program has the output open as a database, or died meanwhile: its changes must not get into new rows."""
    tried = lost = 0
    for mode in ("wal", "delete"):
        name = f"in-use-{mode}.db"
        common = (str(PHOTOS), "-q", "-o", name)
        assert run_predict(tiny, *common).returncode == 0
        change = f"""
import os, sqlite3
database = sqlite3.connect("{name}", isolation_level=None)
for statement in ("cache_size = 1", "journal_mode = {mode}"):
    database.execute(f"PRAGMA {{statement}}")
database.execute("BEGIN")
database.execute("DELETE FROM predictions")
database.execute("CREATE TABLE junk (text)")
database.executemany("INSERT INTO junk VALUES (?)", [["x" * 500]] * 500)
database.execute("{"COMMIT" if mode == "wal" else "SELECT 1"}")
os._exit(0)
"""
        subprocess.run([sys.executable, "-c", change], check=True, timeout=60)
        for resume in ((), ("--resume",)):
            assert run_predict(tiny, *common, *resume).returncode == 6
        with closing(sqlite3.connect(name)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
        assert run_predict(tiny, *common, "--resume").returncode == 0
        with closing(sqlite3.connect(name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        expected = {str(path) for path in PHOTOS.glob("*.jpg")}
        tried += len(expected)
        lost += len(expected - {row.path for row in read_predictions(name)})
    return tried, lost


def shared_stdout(tiny: str) -> tuple[int, int]:
    """Rows written to /dev/stdout, followed by the output of another command of the shell."""
    command = f"{sys.executable} -m dinoclassify predict -m {tiny} {PHOTOS} -q -o /dev/stdout"
    subprocess.run(["bash", "-c", f"({command}; echo last,,,,,,,,) > shared.csv"], check=True, timeout=250)
    expected = {*map(str, PHOTOS.glob("*.jpg")), "last"}
    return len(expected), len(expected - {row["path"] for row in read_csv("shared.csv")})


def shots_moved(tiny: str) -> tuple[int, int]:
    """RAW, JPEG and sidecar of each shot, moved, killed, resumed and undone: none may be torn or lost."""
    for number in range(60):
        os.makedirs("shots", exist_ok=True)
        shutil.copy(PHOTOS / "coffee.jpg", f"shots/{number}.jpg")
        with open(f"shots/{number}.jpg", "ab") as file:
            file.write(b"%d" % number)
        for suffix in ("nef", "xmp"):
            Path(f"shots/{number}.{suffix}").write_text(f"{number}")
    assert run_predict(tiny, "shots", "-o", "shots.csv").returncode == 0
    before = {path.name: path.read_bytes() for path in Path("shots").iterdir()}
    command = [sys.executable, "-m", "dinoclassify", "sort", "--into", "moved", "-q"]
    moving = [*command, "shots.csv", "--mode", "move", "--with-companions", "--resume"]
    for moment in (0, 20, 70, 130):
        with subprocess.Popen(moving, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len([*Path("moved").rglob("*.*")]) < moment:
                time.sleep(0.001)
            process.kill()
    assert subprocess.run(moving, timeout=250).returncode == 0
    moved = {path.parent / path.stem for path in Path("moved").rglob("*.jpg")}
    lost = 60 - len([stem for stem in moved if {*map(str, stem.parent.glob(f"{stem.name}.*"))} >= whole_shot(stem)])
    assert subprocess.run([*command[:4], "--undo", "moved", "-q"], timeout=250).returncode == 0
    after = {path.name: path.read_bytes() for path in Path("shots").iterdir()}
    return 2 * len(before), lost + len(before.items() - after.items())


def whole_shot(stem: Path) -> set[str]:
    return {f"{stem}.{suffix}" for suffix in ("jpg", "nef", "xmp")}


def watched_and_resumed(tiny: str) -> tuple[int, int]:
    """Images that change during a watch, then an update of the same file: one row for each, of its last content."""
    os.mkdir("watched")
    for number in range(12):
        shutil.copy(PHOTOS / "coffee.jpg", f"watched/{number:02}.jpg")
    watch = ("--watch", "watched", "-q", "-o", "watched.csv")
    assert run_predict(tiny, *watch, "--limit", "12").returncode == 0
    for number in range(0, 12, 2):
        shutil.copy(PHOTOS / "rocket.jpg", f"watched/{number:02}.jpg")
    assert run_predict(tiny, *watch, "--limit", "6").returncode == 0
    assert len(read_csv("watched.csv")) == 18
    assert run_predict(tiny, "watched", "-q", "-o", "watched.csv", "--resume").returncode == 0
    wanted = {(str(path), str(path.stat().st_size)) for path in Path("watched").iterdir()}
    found = Counter((row["path"], row["size"]) for row in read_csv("watched.csv"))
    return 18, len(wanted - found.keys()) + found.total() - len(wanted)


def shots_renamed(tiny: str) -> tuple[int, int]:
    """Images that are renamed in the sorted tree before --resume, and one that was edited: no torn shots."""
    os.makedirs("pairs")
    for number in range(10):
        shutil.copy(PHOTOS / "coffee.jpg", f"pairs/{number}.jpg")
        Path(f"pairs/{number}.nef").write_text(f"{number}")
    assert run_predict(tiny, "pairs", "-o", "pairs.csv").returncode == 0
    with open("pairs/0.jpg", "ab") as file:
        file.write(b"edited")
    command = [sys.executable, "-m", "dinoclassify", "sort", "pairs.csv", "--into", "renamed", "--mode", "move", "-q"]
    assert subprocess.run([*command, "--with-companions"], timeout=250).returncode == 3
    journal = Path("renamed/undo-journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # as a kill leaves it before the end of the run
    os.makedirs("best")
    for path in [*Path("renamed").rglob("*.jpg")]:
        path.rename(f"best/{path.name}")
    assert subprocess.run([*command, "--with-companions", "--resume"], timeout=250).returncode == 3
    left = {path.name for path in Path("pairs").iterdir()}
    return 20, len(left ^ {"0.jpg", "0.nef"})


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.timeout(900)
def test_no_row_is_lost_and_no_stranger_gets_in(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = Table("what", "tried", "rows lost, doors open", title="Bad inputs and injected faults")
    total = 0
    can_be_refused = os.geteuid() != 0 or shutil.which("setpriv") is not None
    for what, scenario in (
        ("hostile images", hostile_images if SHARED.is_dir() else None),
        ("names, links, pipes and sockets", hostile_tree),
        ("kill -9 of runs and of processes that decode", killed_runs),
        ("kill -9 of updates, of every kind of output", updates_killed),
        ("folders and mounts that are away, with --prune", roots_away),
        ("three spellings, jq, and another working folder", spellings),
        ("--max-failures, resumed again and again", too_many_failures),
        ("planted links, strange schemes, a stranger's journal", planted_links),
        ("databases that other programs have open, or died in", databases_in_use),
        ("a file that the shell has open, by its name", shared_stdout),
        ("shots of a RAW, a JPEG and a sidecar, moved and killed", shots_moved),
        ("a file of --watch, resumed by predict", watched_and_resumed),
        ("folders that a glob may not list", unreadable_folders if can_be_refused else None),
        ("shots with an image that is edited, or renamed before --resume", shots_renamed),
    ):
        if scenario is None:
            table.add_row(what, f"skipped: no {SHARED}, or no setpriv for root", "")
            continue
        tried, lost = scenario(tiny)
        table.add_row(what, f"{tried:,}", str(lost))
        total += lost
    Console(file=sys.__stderr__, width=100).print(table)
    assert total == 0
