"""Faults from outside: of the disk, the pipe and the machine, and files that people change in the middle of a run."""

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.results.reader import read_predictions
from tests.conftest import PHOTOS, START_METHOD, Cli
from tests.helpers.crash import nothing_is_left_of, size_of
from tests.helpers.prepared import Program
from tests.helpers.resumed import content_of, make_images

COMMAND = [sys.executable, "-m", "dinoclassify"]
SMALL = 48  # KiB, of the disk that fills up


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require(*command: str) -> None:
    """Skip the test where a command does not work."""
    try:
        done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]}")
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")


def on_small_disk(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where ``disk`` is a file system of `SMALL` KiB."""
    require("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt")
    Path("disk").mkdir()
    script = f"mount -t tmpfs -o size={SMALL}k tmpfs disk && {script}"
    return subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=250)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.db"])
def test_a_full_disk_leaves_whole_lines_and_can_be_resumed(here: Path, tiny: str, cli: Cli, name: str) -> None:
    make_images(here / "many", 700)
    arguments = ["predict", "many", "-m", tiny, "-q", "-o"]
    assert cli(*arguments, f"whole-{name}").returncode == 3
    run = " ".join([*COMMAND, *arguments, f"disk/{name}"])
    done = on_small_disk(
        f"{run}; echo $?; ls disk; cp disk/{name}.partial .;"
        f"mount -o remount,size=10m disk && {run} --resume; echo $?; ls disk; cp disk/{name} ."
    )
    assert done.stderr == f"dinoclassify: cannot write disk/{name}.partial: No space left on device\n"
    partial = [f"{name}.partial", f"{name}.partial.meta.json"]
    assert done.stdout.split() == ["6", *partial, "3", name, f"{name}.meta.json"]
    rows = Path(f"{name}.partial").read_bytes()
    assert rows.endswith(b"\n")
    assert rows.count(b"\n") > 100
    assert content_of(name) == content_of(f"whole-{name}")


# Waits in the middle of the run until the disk has gone.
PAUSED = """
import os, sys, time
from dinoclassify import cli
from dinoclassify.writers.tally import Tally
real = Tally.add

def add(tally, row):
    real(tally, row)
    if tally.made == 200:
        open("begun", "w").close()
        while os.path.exists("top/disk/00000.png"):
            time.sleep(0.01)

Tally.add = add
if __name__ == "__main__":
    sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), [("out.csv", "top/disk"), ("out.csv", "'top/*'"), ("parts/", "top")])
def test_no_row_is_lost_if_a_disk_is_unmounted_during_a_run(here: Path, tiny: str, name: str, path: str) -> None:
    require("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt")
    make_images(here / "many", 1500)
    Path("top/disk").mkdir(parents=True)
    Path("paused.py").write_text(PAUSED)
    run = " ".join([*COMMAND, "predict", path, "-m", tiny, "-q", "-o", name, "--batch-size", "4"])
    paused = run.replace("-m dinoclassify", "paused.py", 1)
    mount = "mount -t tmpfs tmpfs top/disk && cp many/* top/disk"
    script = (
        f"{mount} && {run}; echo $?; cp -r {name} before;"
        f"{paused} & until [ -e begun ]; do sleep 0.01; done; umount -l top/disk; wait $!; echo $?;"
        f"cp -r {name} after; {mount} && {run} --resume; echo $?"
    )
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["3", "4", "3"], done.stderr
    partial = name.rstrip("/") + ".partial"
    kept = f"{name} stays as it was; finished rows are in {partial}, --resume goes on"
    assert done.stderr == f"dinoclassify: top/disk went away during the run; is its disk mounted? {kept}\n"
    assert subprocess.run(["diff", "-r", "before", "after"]).returncode == 0
    assert Counter(row.status for row in read_predictions(name)) == Counter(ok=1499, failed=1)


def test_stdout_on_a_full_disk_gets_whole_lines(here: Path, tiny: str) -> None:
    make_images(here / "many", 700)
    run = " ".join([*COMMAND, "predict", "many", "many", "-m", tiny, "-q"])
    done = on_small_disk(f"{run} > disk/out.csv; echo $?; cp disk/out.csv .")
    assert done.stderr == "dinoclassify: cannot write stdout: No space left on device\n"
    assert done.stdout == "6\n"
    assert Path("out.csv").read_bytes().endswith(b"\n")
    assert Path("out.csv").stat().st_size > (SMALL - 5) * 1024


def test_the_new_file_is_flushed_to_the_disk_before_the_old_one_is_replaced(here: Path, tiny: str) -> None:
    require("strace", "-o", "/dev/null")
    Path("out.csv").write_text("old")
    calls = "trace=fsync,rename,renameat,renameat2"
    run = [*COMMAND, "predict", str(PHOTOS), "-m", tiny, "-o", "out.csv", "-q"]
    quiet = ["-qq", "-e", "signal=none"]  # else the end of a worker may come in the middle of a line
    subprocess.run(
        ["strace", "--seccomp-bpf", *quiet, "-f", "-y", "-e", calls, "-o", "trace", *run], check=True, timeout=200
    )
    steps: list[str] = []
    trace = re.sub(r"\.[0-9a-f]{8}-[0-9a-f]{16}\.dinoclassify\.tmp", "new", Path("trace").read_text())
    for line in trace.splitlines():
        if found := re.search(r"fsync\(\d+<(.*)>\) += 0$", line):
            steps.append(f"fsync {found[1].removeprefix(str(here)).lstrip('/') or '.'}")
        elif found := re.search(r'rename(?:at2?)?\(.*?"([^"]*)".*?"([^"]*)".*= 0$', line):
            steps.append(f"rename {Path(found[1]).name} {Path(found[2]).name}")
    of_output = [step for step in steps if "out.csv" in step or step in ("fsync .", "fsync new")]
    new = ["fsync new", "rename new out.csv.partial{0}", "fsync ."]
    meta = [step.format(".meta.json") for step in new]
    assert of_output == [
        *meta,
        *(step.format("") for step in new),
        "fsync out.csv.partial",
        *meta,
        "fsync out.csv.partial",  # with the rights of the old file
        *("rename out.csv.partial out.csv", "fsync ."),
        *("rename out.csv.partial.meta.json out.csv.meta.json", "fsync ."),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("write:error=EIO:when=5+", "cannot write out.csv.partial: Input/output error"),
        ("fsync:error=EIO:when=3", "cannot write out.csv.partial: Input/output error"),
        ("rename:error=EROFS:when=1", "cannot write {here}/out.csv: Read-only file system"),
    ],
)
def test_a_disk_that_fails_leaves_the_old_file(here: Path, tiny: str, fault: str, message: str) -> None:
    require("strace", "-o", "/dev/null")
    Path("out.csv").write_text("old")
    run = [*COMMAND, "predict", *[str(PHOTOS)] * 2, "-m", tiny, "-o", "out.csv", "-q"]
    paths = [f"{here}/out.csv{end}" for end in ("", ".partial", ".partial.meta.json")]
    only = [argument for path in [*paths, str(here)] for argument in ("-P", path)]
    faulty = ["strace", "-f", "-o", "trace", *only, "-e", "trace=write,fsync,rename", "-e", f"inject={fault}"]
    done = subprocess.run([*faulty, *run], capture_output=True, text=True, timeout=250)
    stderr = [line for line in done.stderr.splitlines() if not line.startswith("strace: ")]
    assert (done.returncode, stderr) == (6, [f"dinoclassify: {message.format(here=here)}"])
    assert "INJECTED" in Path("trace").read_text()
    assert Path("out.csv").read_text() == "old"
    again = subprocess.run([*run, "--resume"], capture_output=True, text=True, timeout=250)
    assert (again.returncode, again.stderr) == (0, "")
    assert Path("out.csv").read_text().count("\n") == 11


def test_what_may_not_be_read_is_a_failed_row_or_one_line(here: Path, tiny: str) -> None:
    run = [*COMMAND, "predict", "photos", "-m", tiny]
    if os.geteuid() == 0:  # root may read all, but for this
        run = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *run]
        require(*run[:2])
    shutil.copytree(PHOTOS, "photos")
    Path("photos/camera.jpg").chmod(0)
    Path("photos/closed").mkdir(mode=0)
    done = subprocess.run([*run, "photos/closed"], capture_output=True, text=True, timeout=250)
    message = "photos/closed cannot be listed (Permission denied): let this user read it, or leave it out"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", f"dinoclassify: {message}\n")
    done = subprocess.run(run, capture_output=True, text=True, timeout=250)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert done.returncode == 3, done.stderr
    failed = {row["path"]: row["error_code"] for row in rows if row["status"] == "failed"}
    assert failed == {"photos/camera.jpg": "unreadable", "photos/closed": "unreadable"}
    assert len(rows) == 6
    assert all(row["size"] and row["mtime_ns"] for row in rows), "so that a later run knows them again"
    Path("results").mkdir(mode=0o555)
    done = subprocess.run([*run, "-o", "results/out.csv"], capture_output=True, text=True, timeout=250)
    why = f"the folder {here}/results may not be written to; choose another"
    assert (done.returncode, done.stderr) == (6, f"dinoclassify: cannot write results/out.csv: {why}\n")


def test_postscript_is_not_run(here: Path, tiny: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would run Ghostscript for EPS."""
    Path("bin").mkdir()
    Path("bin/gs").write_text(f"#!/bin/sh\ntouch {here}/was-run\n")
    Path("bin/gs").chmod(0o755)
    Path("images").mkdir()
    eps = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    Path("images/a.jpg").write_text(eps)
    monkeypatch.setenv("PATH", f"{here}/bin:{os.environ['PATH']}")
    done = cli("predict", "images", "-m", tiny)
    row = next(csv.DictReader(done.stdout.decode().splitlines()))
    assert (row["status"], row["error_code"]) == ("failed", "unsupported_format")
    assert not Path("was-run").exists()


def test_files_that_change_during_the_run(here: Path, tiny: str) -> None:
    shutil.copytree(PHOTOS, "photos")
    run = [*COMMAND, "predict", "-", "-m", tiny, "-q"]
    with Program(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        rows = csv.reader(process.stdout)
        answers: list[list[str]] = []
        stdin = process.stdin

        def ask(*names: str) -> None:
            for name in names:
                stdin.write(f"photos/{name}.jpg\n")
                answers.append(next(row for row in rows if row[0] != "path"))

        ask("camera", "rocket")
        os.unlink("photos/camera.jpg")
        ask("camera", "rocket")
        os.truncate("photos/rocket.jpg", 5000)
        ask("camera", "rocket")
        process.stdin.close()
        assert process.wait(timeout=60) == 3
    assert [row[5] for row in answers] == ["", "", "vanished", "", "vanished", "truncated"]


def test_a_run_ends_when_its_reader_is_closed_even_without_a_row_to_write(here: Path, tiny: str) -> None:
    """Also while it waits for its list."""
    run = [*COMMAND, "predict", "-", "-m", tiny]
    with Program[bytes](
        run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{PHOTOS}/coffee.jpg\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0  # else it waits for its list for ever
        if START_METHOD == "fork":  # else Python's resource tracker tells what it removes
            assert process.stderr.read() == b""
        assert nothing_is_left_of(process.pid)


# The loader of glibc, OpenBLAS (which raises SIGINT), abort and a segmentation fault, where C finds no memory.
ENDED_BY_C = {127, 130, -signal.SIGABRT, -signal.SIGSEGV}


@pytest.mark.parametrize("gigabytes", [0.2, 0.6, 2.5])
def test_too_little_memory_is_one_line(here: Path, tiny: str, gigabytes: float) -> None:
    require("prlimit", f"--as={8 << 30}")
    run = ["prlimit", f"--as={int(gigabytes * 2**30)}", *COMMAND, "predict", str(PHOTOS), "-m", tiny, "-q"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # as users have it
    done = subprocess.run(run, capture_output=True, text=True, timeout=250, env=environment)
    if done.returncode in {0, 3}:
        assert done.stdout.count("\n") == 6
        assert done.stderr == ""
    elif done.returncode in ENDED_BY_C and gigabytes == 0.6:  # a library may do so in the middle of its import
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
    else:
        assert done.returncode in {1, 5}
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("dinoclassify: ")
        assert "internal error" not in done.stderr


def memory_of_group(group: int) -> int:
    """Bytes of memory of all processes of a group, without mapped files; shared pages count once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text()
                sizes = re.findall(r"^Pss_(?:Anon|Shmem): +(\d+)", rollup, re.MULTILINE)
                total += sum(int(size) << 10 for size in sizes)
        except (OSError, ProcessLookupError):
            continue
    return total


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_long_run_with_kills_writes_the_same_file_in_flat_memory(here: Path, tiny: str) -> None:
    """20,000 files; workers and the run itself are killed at random moments."""
    Path("many").mkdir()
    chance = random.Random(4)
    for number in range(20_000):
        Image.new("RGB", (32, 32), tuple(chance.randbytes(3))).save(f"many/{number:05}.png")
    for number in range(0, 20_000, 997):
        os.truncate(f"many/{number:05}.png", 40)
    run = [*COMMAND, "predict", "many", "-m", tiny, "-j", "2", "--batch-size", "16", "-q", "-o"]
    memory: list[int] = []
    with Program[bytes]([*run, "whole.csv"], start_new_session=True) as process:
        while process.poll() is None:
            if Path("whole.csv.partial").exists():
                memory.append(memory_of_group(process.pid))
            time.sleep(0.2)
    assert process.returncode == 3
    middle = len(memory) // 3
    early, late = sorted(memory[middle : 2 * middle]), sorted(memory[2 * middle :])
    assert late[len(late) // 2] < early[len(early) // 2] * 1.1 + 8e6

    runs, workers = 0, 0
    while True:
        with Program[bytes]([*run, "out.csv", "--resume"], stderr=subprocess.DEVNULL) as process:
            life = chance.randrange(1, 8)
            while process.poll() is None and life:
                if grown("out.csv.partial", process):
                    life -= 1
                    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
                    for child in chance.sample(found.split(), k=min(1, len(found.split()))):
                        with suppress(ProcessLookupError):
                            os.kill(int(child), signal.SIGKILL)
                            workers += 1
            if process.poll() is None:
                process.kill()
                runs += 1
        if process.returncode == 3:
            break
        assert process.returncode == -signal.SIGKILL
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert runs >= 3
    assert workers >= 10
    assert sorted(os.listdir()) == [
        "many",
        *(f"{name}.csv{end}" for name in ("out", "whole") for end in ("", ".meta.json")),
    ]


def grown(name: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the file has more rows; False if the process ends before."""
    before = size_of(name)
    while process.poll() is None:
        if size_of(name) > before + 30_000:
            return True
        time.sleep(0.005)
    return False
