"""Inputs that nobody can read or find, each with the number of rows or files at risk and of those that were lost."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tests.conftest import PHOTOS, SHARED

NAMES = [
    b"new\nline.jpg", b"cr\r.jpg", b"tab\t.jpg", b"esc\x1b[31m.jpg", b"=1+1.jpg", b"-rf.jpg", b"[bold]x.jpg",
    b"a,b\"c.jpg", b" space .jpg", b"NA", b"bad\xff\xfe.jpg", "é.jpg".encode(), "e\u0301.jpg".encode(),
    "line\u2028.jpg".encode(), b"x" * 246 + b".jpg", b"*.jpg", b"'quoted'.jpg",
]  # fmt: skip


def run_predict(
    tiny: str, *arguments: str, before: Sequence[str] = (), stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*before, sys.executable, "-m", "dinoclassify", "predict", "-m", tiny, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=250)


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def count_lost(done: subprocess.CompletedProcess[bytes], path: str, expected: int) -> int:
    """The number of lost rows of a run that must have ended well, with only messages on stderr."""
    assert done.returncode in {0, 3}, done.stderr
    assert b"Traceback" not in done.stderr
    assert all(line.startswith(b"dinoclassify: ") for line in done.stderr.splitlines())
    for row in read_csv(path):
        assert (row["status"] == "failed") == (row["label"] == "") == (row["error_code"] != "")
    return expected - len(read_csv(path))


def hostile_images(tiny: str) -> tuple[int, int]:
    """All files of the collection, as `find -print0` lists them: the rows are ok where Pillow decodes the file."""
    folder = SHARED / "hostile" / "pillow"
    found = subprocess.run(["find", str(folder), "-type", "f", "-print0"], capture_output=True, check=True).stdout
    done = run_predict(tiny, "-", "-0", "-o", "hostile.csv", "--max-pixels", "178956970", stdin=found)
    archive = str(folder / "hopper.tar")  # the one of the collection
    with tarfile.open(archive) as tar:
        members = [f"{archive}!{name}" for name in tar.getnames()]
    listed = [os.fsdecode(name) for name in found.split(b"\0")[:-1]]
    names = list(chain.from_iterable(members if name == archive else [name] for name in listed))
    lost = count_lost(done, "hostile.csv", len(names))
    made = read_csv("hostile.csv")
    assert [row["path"] for row in made] == names
    outcomes = map(json.loads, (SHARED / "hostile" / "pillow-outcomes.jsonl").read_text().splitlines())
    decodes = {str(folder / item["f"]): item["ok"] for item in outcomes} | dict.fromkeys(members, True)
    assert all(decodes[row["path"]] for row in made if row["status"] == "ok" and not row["path"].endswith(".heif"))
    return len(names), lost


def hostile_tree(tiny: str) -> tuple[int, int]:
    """A folder of strange names, links, pipes and sockets, which is also the folder of the output."""
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
        done = run_predict(tiny, "tree", "tree/NA", "tree/NA", "--follow", "-o", "tree/rows.csv")
    expected = len(NAMES) - 1 + 4 + 2  # NA is no image by its name
    lost = count_lost(done, "tree/rows.csv", expected)
    assert [row["error_code"] for row in read_csv("tree/rows.csv")].count("") == len(NAMES) - 1 + 2
    return expected, lost


def roots_away(tiny: str) -> tuple[int, int]:
    """A named folder, or a mount below one, that is missing while a nightly job runs."""
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
    done = run_predict(tiny, *arguments, "-o", "night.csv")
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr
    return read_csv("night.csv")


def spellings(tiny: str) -> tuple[int, int]:
    """The same folder by three names, rows whose times jq has rounded, and commands run from another folder."""
    shutil.copytree(PHOTOS, "spelt")
    count = len(list(PHOTOS.glob("*.jpg")))
    lost = 0
    for name in ("spelt", "./spelt", os.path.abspath("spelt"), "spelt"):
        assert run_predict(tiny, name, "-o", "spelt.jsonl", "--resume", "-q").returncode == 0
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


def unreadable_folders(tiny: str) -> tuple[int, int]:
    """Globs over folders that this user may not list: each has a row, and --prune keeps the rows below it."""
    command: tuple[str, ...] = ()
    if os.geteuid() == 0:  # who may read all, unless that is given up
        rights = "-dac_override,-dac_read_search"
        command = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    for folder in ("open", "shut", "shut/below"):
        os.makedirs(f"some/{folder}")
        shutil.copy(PHOTOS / "coffee.jpg", f"some/{folder}/a.jpg")
    globs = ("some/*/*.jpg", "some/**/*.jpg")
    assert run_predict(tiny, *globs, "-o", "some.csv").returncode == 0
    before = read_csv("some.csv")
    os.chmod("some/shut", 0)
    done = run_predict(tiny, *globs, "-q", "--resume", "--prune", "-o", "some.csv", before=command)
    os.chmod("some/shut", 0o755)
    assert (done.returncode, done.stderr) == (3, b"")
    wanted = Counter(row["path"] for row in before) + Counter({"some/shut": len(globs)})
    return wanted.total(), (wanted - Counter(row["path"] for row in read_csv("some.csv"))).total()
