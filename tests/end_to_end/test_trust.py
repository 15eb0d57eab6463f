"""Everything bad at once: inputs that nobody can read and faults in the middle of runs. No row may be lost."""

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from dinoclassify.results.reader import read_predictions
from tests.conftest import PHOTOS, SHARED
from tests.helpers.crash import size_of

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


def hostile_images(tiny: str) -> tuple[int, int]:
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
    """A folder of names and things that are not images, the output among them."""
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
    expected = len(NAMES) - 1 + 4 + 2  # NA is no image by its name
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
    return faults, len(rows("whole.csv")) - len(rows("killed.csv"))


def updates_killed(tiny: str) -> tuple[int, int]:
    """kill -9 of an update of a finished output, of each kind, and the same command again."""
    os.mkdir("many")
    for number in range(120):
        shutil.copy(PHOTOS / "coffee.jpg", f"many/{number:03}.jpg")
    lost = tried = 0
    for name in ("update.csv", "update.jsonl", "update.parquet", "update.db", "update/"):
        common = ("many", "-q", "--batch-size", "4")
        assert predict(tiny, *common, "--limit", "40", "-o", name).returncode == 0
        shutil.copytree(name, f"whole-{name}") if name.endswith("/") else shutil.copy(name, f"whole-{name}")
        if not name.endswith("/"):
            shutil.copy(f"{name}.meta.json", f"whole-{name}.meta.json")
        assert predict(tiny, *common, "--resume", "-o", f"whole-{name}").returncode == 0
        command = [sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *common, "-o", name, "--resume"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not os.path.exists(f"{name.rstrip('/')}.partial"):
                time.sleep(0.01)
            time.sleep(0.3)
            process.kill()
        assert predict(tiny, *common, "-o", name).returncode in {0, 2}  # refused if there are finished rows
        assert predict(tiny, *common, "--resume", "-o", name).returncode == 0
        tried += 120
        expected = [(row.path, row.label) for row in read_predictions(f"whole-{name}")]
        found = [(row.path, row.label) for row in read_predictions(name)]
        lost += len(expected) - len(set(found) & set(expected)) if found != expected else 0
    return tried, lost


def roots_away(tiny: str) -> tuple[int, int]:
    """A named folder, and a mount below one, that are away while a job runs at night."""
    for folder, names in (("album/mnt", "c*.jpg"), ("other", "rocket.jpg"), ("album", "*.jpg")):
        os.makedirs(folder, exist_ok=True)
        for path in PHOTOS.glob(names):
            shutil.copy(path, folder)
    whole = len(rows_after(tiny, 0, "album", "other"))
    os.rename("album", "away")
    found = [rows_after(tiny, 4, "album", "other", *more) for more in ((), ("--resume",), ("--resume", "--prune"))]
    os.mkdir("album")  # an empty mount point
    found.append(rows_after(tiny, 0, "album", "other", "--resume", "--prune"))
    os.rmdir("album")
    os.rename("away", "album")
    os.rename("album/mnt", "mnt")
    os.mkdir("album/mnt")
    found.append(rows_after(tiny, 0, "album", "other", "--resume", "--prune"))
    return len(found) * whole, sum(whole - len(some) for some in found)


def rows_after(tiny: str, code: int, *arguments: str) -> list[dict[str, str]]:
    done = predict(tiny, *arguments, "-o", "night.csv")
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr
    return rows("night.csv")


def spellings(tiny: str) -> tuple[int, int]:
    """The same folder by three names, its rows through jq, which rounds times, and a look from another folder."""
    shutil.copytree(PHOTOS, "spelt")
    count = len(list(PHOTOS.glob("*.jpg")))
    lost = 0
    for name in ("spelt", "./spelt", os.path.abspath("spelt"), "spelt"):
        assert predict(tiny, name, "-o", "spelt.jsonl", "--resume", "-q").returncode == 0
        lost += abs(len(Path("spelt.jsonl").read_text().splitlines()) - count)
    written = Path("spelt.jsonl").read_text().splitlines()
    rounded = [json.loads(line, parse_int=lambda text: int(float(text))) for line in written]
    lines = "".join(json.dumps(row) + "\n" for row in rounded)
    for arguments, folder in ((["tag", "-"], "."), (["sort", "../spelt.jsonl", "--into", "../sorted"], "spelt")):
        command = [sys.executable, "-m", "dinoclassify", *arguments]
        done = subprocess.run(command, input=lines, cwd=folder, capture_output=True, text=True, timeout=250)
        lost += done.returncode != 0
    lost += count - len(list(Path("sorted").rglob("*.jpg")))
    return 6 * count, lost


def too_many_failures(tiny: str) -> tuple[int, int]:
    """Forty files that are not images, and a limit of five: no number of runs puts them into FILE."""
    shutil.copytree(PHOTOS, "failing")
    assert predict(tiny, "failing", "-o", "kept.csv").returncode == 0
    before = Path("kept.csv").read_bytes()
    for number in range(40):
        Path(f"failing/bad-{number}.jpg").write_text("not an image")
    codes = [predict(tiny, "failing", "-o", "kept.csv", "--resume", "--max-failures", "5").returncode for _ in range(4)]
    assert codes == [7] * 4
    return 4 * len(before.splitlines()), 0 if Path("kept.csv").read_bytes() == before else 1


def doors(tiny: str) -> tuple[int, int]:
    """Planted links, a list that names strange schemes, and a journal of a stranger: how many have opened."""
    opened = 0
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        names = [f"{scheme}://{address}/a.jpg" for scheme in ("ftp", "webhdfs", "http", "simplecache::ftp", "FTP")]
        done = predict(tiny, "-", "-o", "schemes.csv", stdin="\n".join(names).encode())
        assert (done.returncode, len(rows("schemes.csv"))) == (3, len(names)), done.stderr
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
    assert predict(tiny, str(PHOTOS / "coffee.jpg"), "-o", "out.csv").returncode == 0
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
    """Another program has the output open as a database, or died so: its changes must not get into new rows."""
    tried = lost = 0
    for mode in ("wal", "delete"):
        name = f"in-use-{mode}.db"
        common = (str(PHOTOS), "-q", "-o", name)
        assert predict(tiny, *common).returncode == 0
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
            assert predict(tiny, *common, *resume).returncode == 6
        with closing(sqlite3.connect(name)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
        assert predict(tiny, *common, "--resume").returncode == 0
        with closing(sqlite3.connect(name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        expected = {str(path) for path in PHOTOS.glob("*.jpg")}
        tried += len(expected)
        lost += len(expected - {row.path for row in read_predictions(name)})
    return tried, lost


def shared_stdout(tiny: str) -> tuple[int, int]:
    """Rows for /dev/stdout, and then those of other programs that the shell starts."""
    command = f"{sys.executable} -m dinoclassify predict -m {tiny} {PHOTOS} -q -o /dev/stdout"
    subprocess.run(["bash", "-c", f"({command}; echo last,,,,,,,,) > shared.csv"], check=True, timeout=250)
    expected = {*map(str, PHOTOS.glob("*.jpg")), "last"}
    return len(expected), len(expected - {row["path"] for row in rows("shared.csv")})


def shots_moved(tiny: str) -> tuple[int, int]:
    """RAW, JPEG and sidecar of a shot, moved with kill -9 of the run, resumed, and taken back: what is torn or gone."""
    for number in range(60):
        os.makedirs("shots", exist_ok=True)
        shutil.copy(PHOTOS / "coffee.jpg", f"shots/{number}.jpg")
        with open(f"shots/{number}.jpg", "ab") as file:
            file.write(b"%d" % number)
        for suffix in ("nef", "xmp"):
            Path(f"shots/{number}.{suffix}").write_text(f"{number}")
    assert predict(tiny, "shots", "-o", "shots.csv").returncode == 0
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


def unreadable_folders(tiny: str) -> tuple[int, int]:
    """Globs over folders that this user may not list: each has its row, and the rows below it stay with --prune."""
    command: tuple[str, ...] = ()
    if os.geteuid() == 0:  # who may read all, unless that is given up
        rights = "-dac_override,-dac_read_search"
        command = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    for folder in ("open", "shut", "shut/below"):
        os.makedirs(f"some/{folder}")
        shutil.copy(PHOTOS / "coffee.jpg", f"some/{folder}/a.jpg")
    globs = ("some/*/*.jpg", "some/**/*.jpg")
    assert predict(tiny, *globs, "-o", "some.csv").returncode == 0
    before = rows("some.csv")
    os.chmod("some/shut", 0)
    done = predict(tiny, *globs, "-q", "--resume", "--prune", "-o", "some.csv", before=command)
    os.chmod("some/shut", 0o755)
    assert (done.returncode, done.stderr) == (3, b"")
    wanted = Counter(row["path"] for row in before) + Counter({"some/shut": len(globs)})
    return wanted.total(), (wanted - Counter(row["path"] for row in rows("some.csv"))).total()


def watched_and_resumed(tiny: str) -> tuple[int, int]:
    """Images that change while they are watched; then an update of the same file: one row each, of what is there."""
    os.mkdir("watched")
    for number in range(12):
        shutil.copy(PHOTOS / "coffee.jpg", f"watched/{number:02}.jpg")
    watch = ("--watch", "watched", "-q", "-o", "watched.csv")
    assert predict(tiny, *watch, "--limit", "12").returncode == 0
    for number in range(0, 12, 2):
        shutil.copy(PHOTOS / "rocket.jpg", f"watched/{number:02}.jpg")
    assert predict(tiny, *watch, "--limit", "6").returncode == 0
    assert len(rows("watched.csv")) == 18
    assert predict(tiny, "watched", "-q", "-o", "watched.csv", "--resume").returncode == 0
    wanted = {(str(path), str(path.stat().st_size)) for path in Path("watched").iterdir()}
    found = Counter((row["path"], row["size"]) for row in rows("watched.csv"))
    return 18, len(wanted - found.keys()) + found.total() - len(wanted)


def shots_renamed(tiny: str) -> tuple[int, int]:
    """Images that are called otherwise in the sorted tree before --resume, and an image edited since: torn shots."""
    os.makedirs("pairs")
    for number in range(10):
        shutil.copy(PHOTOS / "coffee.jpg", f"pairs/{number}.jpg")
        Path(f"pairs/{number}.nef").write_text(f"{number}")
    assert predict(tiny, "pairs", "-o", "pairs.csv").returncode == 0
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
def test_no_row_is_lost_and_no_door_is_open(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("planted links, strange schemes, a stranger's journal", doors),
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
