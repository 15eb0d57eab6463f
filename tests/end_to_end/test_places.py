"""Machines that lack something: a home, a cache, room, memory, processes, locks; and what `doctor` says of them."""

import errno
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from dinoclassify import Classifier
from dinoclassify.cli import run
from dinoclassify.diagnostics.doctor import examine
from dinoclassify.errors import LockedError, ModelError, WorkerError
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.openvino import OpenVINORuntime
from dinoclassify.runtimes.openvino_network import converted, reason_of
from dinoclassify.storage import cache
from dinoclassify.storage.lock import lock_of, locked
from dinoclassify.system.cgroups import CgroupLimits, read_limits
from dinoclassify.system.environment import NO_HOME, available_cpus, make_do
from tests.conftest import PHOTOS

Refuse = Callable[[int | None], None]


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that nobody can write, root included; and a folder for temporary files."""
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(cache, "_of_this_process", {})
    monkeypatch.setattr(cache, "_complained", set())
    return tmp_path / "temporary"


@pytest.fixture
def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have the file system answer every lock with an error; or with locks again."""
    real = fcntl.flock

    def refuse(number: int | None) -> None:
        def flock(descriptor: int, operation: int) -> None:
            if number is None:
                return real(descriptor, operation)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return refuse


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `doctor` not import torch, which takes seconds."""
    monkeypatch.setattr("dinoclassify.diagnostics.doctor._devices", lambda: iter(()))


def write(folder: Path) -> None:
    (folder / "made").write_text("made")


def test_a_cache_that_cannot_be_written_is_said_once_with_the_cure(
    no_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cache.kept_folder("a", {}, write)
    assert (first / "made").read_text() == "made"
    assert first.parent == no_cache
    assert cache.kept_folder("a", {}, write) == first
    cache.kept_folder("b", {}, write)
    (message,) = caplog.messages
    assert message.startswith(f"nothing can be kept in {no_cache.parent}/file/dinoclassify (Not a directory), so that ")
    assert "set XDG_CACHE_HOME to a folder" in message


def test_what_a_killed_run_leaves_among_the_temporary_files_is_removed_and_that_of_others_stays(no_cache: Path) -> None:
    code = """
import sys, tempfile, time
from dinoclassify.storage import cache
tempfile.tempdir = sys.argv[1]
print(cache.kept_folder(sys.argv[2], {}, lambda folder: None), flush=True)
time.sleep(60)
"""
    others = no_cache / "dinoclassify-mine"
    others.mkdir()

    @contextmanager
    def other(name: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        command = [sys.executable, "-c", code, str(no_cache), name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
            process.kill()

    with other("dead") as (process, left):
        process.kill()
        process.wait()
        with other("alive") as (_, used):
            assert not left.exists(), "swept by the second"
            mine = cache.kept_folder("c", {}, write)
            assert used.is_dir()
            assert others.is_dir()
            assert mine.is_dir()
    cache.kept_folder("d", {}, write)
    assert not used.exists()


def test_where_files_cannot_be_locked_the_cache_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_locks: Refuse, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refuse_locks(errno.ENOLCK)
    made = cache.kept_folder("a", {}, write)
    assert made.parent == tmp_path / "dinoclassify"
    assert cache.find_kept("a", {}) is not None

    def slow(folder: Path) -> None:
        write(folder)
        shutil.copytree(made, cache.cache_root() / f"b-{made.name[-8:]}")  # another process is faster

    assert (cache.kept_folder("b", {}, slow) / "made").exists()
    assert caplog.messages == []


def test_without_any_room_openvino_makes_way_for_torch(
    no_cache: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dinoclassify.runtimes.openvino_network.save_network", full)
    monkeypatch.setattr(Path, "write_text", full)
    classifier = Classifier(tiny, device="cpu")
    assert classifier.runtime == "torch"
    assert {row.status for row in classifier.predict(PHOTOS)} == {"ok"}
    assert caplog.messages[-1].startswith(f"no room for {tiny} as OpenVINO needs it (No space left on device): set XDG")
    assert caplog.messages[-1].endswith(": going on with torch")
    with pytest.raises(
        ModelError, match=r"TMPDIR, to a folder that can be written and has room; or use --runtime torch"
    ):
        Classifier(tiny, runtime="openvino")
    assert list(no_cache.iterdir()) == [], "nothing half-made takes room"


def test_what_openvino_says_is_whole(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/plugin.cpp:54:\n{}\n\n"
    assert reason_of(RuntimeError(said.format("Check 'x' failed:\nno such\n"))) == "Check 'x' failed: no such"

    def refuse(reason: str) -> Callable[[], None]:
        def core() -> None:
            raise RuntimeError(said.format(reason))

        return core

    converted(open_model(tiny))
    monkeypatch.setattr("dinoclassify.runtimes.openvino_network.core", refuse("Resource temporarily unavailable"))
    with pytest.raises(ModelError, match=r"OpenVINO cannot load .* \(Resource temporarily unavailable\); or use"):
        Classifier(tiny, runtime="openvino")
    assert Classifier(tiny, device="cpu").runtime == "torch"
    monkeypatch.setattr("dinoclassify.runtimes.openvino_network.core", refuse("std::bad_alloc"))
    with pytest.raises(ModelError, match=r"there is not enough memory for .*: try a smaller --model, or allow more"):
        Classifier(tiny, device="cpu")


def test_too_small_an_address_space_is_refused_before_a_library_hangs(
    here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (900 << 20, 900 << 20))
    assert run(["predict", str(PHOTOS), "-m", tiny, "-o", "out.csv"]) == 5
    message = "ulimit -v allows 0.88 GiB of address space, a model needs 1 GiB at least: allow more"
    assert capsys.readouterr().err == f"dinoclassify: {message}\n"
    assert not list(here.glob("*out.csv*"))


def test_openvino_that_fails_in_the_middle_says_why(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Exception from a.cpp:1:\nCaught exception: Exception from b.cpp:2:\n[CPU] Convolution node can't alloc\n\n"

    class Request:
        def start_async(self, *_: object, **__: object) -> None: ...

        def wait(self) -> None:
            raise RuntimeError(said)

    classifier = OpenVINORuntime(open_model(tiny))
    monkeypatch.setattr(classifier, "_idle", [Request()])
    with pytest.raises(
        ModelError, match=r"\(\[CPU\] Convolution node can't alloc\): allow more memory, or use --runtime"
    ):
        classifier(torch.zeros((1, 3, 56, 56), dtype=torch.uint8))()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 5120000 bytes"), "not enough memory"),
        (RuntimeError("Exception from core.cpp:117:\nstd::bad_alloc"), "not enough memory"),
        (RuntimeError("can't start new thread"), "no more processes or threads may be started: allow more (ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes or threads"),
        (OSError(errno.ENOSPC, "No space left on device", "{temporary}/x"), "there is no room for temporary files ("),
        (OSError(errno.EROFS, "Read-only file system", "/dev/shm/pym-1"), "set TMPDIR to a folder that can be written"),
    ],
)
def test_what_a_machine_lacks_is_one_line(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(temporary=tmp_path)
    monkeypatch.setattr("dinoclassify.cli.app.hush", lambda: None)

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("dinoclassify.diagnostics.doctor.examine", fails)
    assert run(["doctor"]) == 1
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_a_user_without_a_home_gets_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache.cache_root() == Path(NO_HOME, ".cache", "dinoclassify")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_do()
    assert os.environ["HOME"] == NO_HOME
    monkeypatch.undo()


def test_without_a_folder_for_temporary_files_memory_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr("dinoclassify.system.environment.SHARED_MEMORY", str(tmp_path))
    make_do()
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert tempfile.tempdir == str(tmp_path)


def test_where_few_processes_may_be_started_libraries_have_one_thread(
    monkeypatch: pytest.MonkeyPatch, tiny: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(processes=8))
    make_do()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("1", "1")
    assert Classifier(tiny, device="cpu").runtime == "torch"
    assert caplog.messages == [
        "few processes may be started (ulimit -u, or the limit of the container): going on with torch"
    ]


def test_a_process_whose_other_end_cannot_be_started_is_ended(monkeypatch: pytest.MonkeyPatch, tiny: str) -> None:
    def half_made(*_: object, multiprocessing_context: Any, **__: object) -> None:
        multiprocessing_context.Process(target=time.sleep, args=(60,)).start()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dinoclassify.decoding.worker.DataLoader", half_made)
    with pytest.raises(WorkerError, match=r"try fewer --workers, or more processes \(ulimit -u\)"):
        list(Classifier(tiny, runtime="torch", device="cpu").predict(PHOTOS, workers=1))
    for process in multiprocessing.active_children():
        process.join(5)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_claim_keeps_other_runs_out_and_names_its_holder(
    number: int, here: Path, refuse_locks: Refuse
) -> None:
    claim = here / ".out.csv.dinoclassify.claim"
    refuse_locks(number)
    with locked("out.csv", wait=False):
        for able in (number, None):  # this host, and one that can lock the file
            refuse_locks(able)
            with pytest.raises(LockedError) as caught, locked("out.csv", wait=False):
                pass
            assert str(caught.value).startswith(f"another run is writing out.csv (process {os.getpid()} on ")
            assert str(caught.value).endswith(f": --wait waits for it; if that is dead, remove {claim}")
        refuse_locks(number)
    assert not [path for path in here.iterdir() if path.name.startswith(".out")]


def test_a_claim_sees_a_lock(here: Path, refuse_locks: Refuse) -> None:
    with locked("out.csv", wait=False):
        refuse_locks(errno.ENOLCK)
        with pytest.raises(LockedError, match=r"if that is dead, remove .*lock"), locked("out.csv", wait=False):
            pass
    Path(lock_of("out.csv")).write_text("1\nnode7\n")  # of a run that was killed, or is not to be seen from here
    with pytest.raises(LockedError, match=r"\(process 1 on node7\)"), locked("out.csv", wait=False):
        pass


@pytest.mark.parametrize("able", [True, False])
def test_a_claim_whose_process_is_dead_is_taken_over_on_its_own_host_alone(
    able: bool, here: Path, refuse_locks: Refuse
) -> None:
    refuse_locks(errno.ENOSYS)
    child = os.fork()
    if child == 0:
        taken = locked("out.csv", wait=False)
        taken.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    claim = here / ".out.csv.dinoclassify.claim"
    assert claim.read_text().startswith(f"{child}\n")
    refuse_locks(None if able else errno.ENOSYS)
    with locked("out.csv", wait=False):
        assert claim.exists() != able
    claim.write_text(f"{child}\nnode7\n")
    with (
        pytest.raises(LockedError, match=rf"\(process {child} on node7\).* remove {claim}"),
        locked("out.csv", wait=False),
    ):
        pass


def test_a_killed_run_whose_workers_are_still_ending_keeps_nobody_out(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    asked, asking = os.pipe()
    child = os.fork()
    if child == 0:
        taken = locked("out.csv", wait=False)
        taken.__enter__()
        if os.fork() == 0:  # a worker, which shares the lock
            os.close(reading)
            os.close(asking)
            os.read(asked, 1)
            time.sleep(2)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # who started it may be slow to notice
    os.close(writing)
    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.storage.lock._ENDING", 0.0)
        with pytest.raises(LockedError, match=rf"\(process {child} on .*, which has ended; a process that it started"):
            locked("out.csv", wait=False).__enter__()
    os.close(asking)  # the worker ends soon
    with locked("out.csv", wait=False):
        assert os.read(reading, 1) == b"", "the worker has ended"
    os.close(reading)
    os.close(asked)
    os.waitpid(child, 0)


def test_limits_of_control_groups_of_both_versions_are_read(tmp_path: Path) -> None:
    def group(folder: str, **files: str) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / name.replace("__", ".")).write_text(f"{content}\n")

    groups = tmp_path / "groups"
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits()
    groups.write_text("0::/pod/box\n")
    group("pod", memory__max="1000", cpu__max="max 100000", pids__max="50")
    group("pod/box", memory__max="max", cpu__max="50000 100000", pids__max="max")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits(memory=1000, cpus=0.5, processes=50)
    groups.write_text("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:pids:/docker/abc\n")
    group("memory", memory__limit_in_bytes="2000")  # what is mounted in a container is its own group
    group("cpu,cpuacct", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    group("pids", pids__max="max")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits(memory=2000, cpus=1.5)
    group("memory", memory__limit_in_bytes="9223372036854771712")
    group("cpu,cpuacct", cpu__cfs_quota_us="-1")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits()


def test_a_cgroup_limits_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(96)), raising=False)
    for share, expected in ((None, 96), (16.0, 16), (1.5, 2), (0.25, 1), (128.0, 96)):
        monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda share=share: CgroupLimits(cpus=share))
        assert available_cpus() == expected


def verdicts(model: str | None = "builtin", output: str | None = None) -> dict[str, tuple[str, str, str | None]]:
    return {finding.name: (finding.verdict, finding.found, finding.cure) for finding in examine(model, output)}


@pytest.mark.usefixtures("no_devices")
def test_doctor_finds_what_stands_in_the_way(
    here: Path, capsys: pytest.CaptureFixture[str], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["doctor", "-m", tiny, "-o", "out.csv"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["doctor", "-m", "./nowhere", "-o", "no/out.csv", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == "dinoclassify: this stands in the way of a run: model ./nowhere, place output\n"
    model, output = [row for row in json.loads(out) if row["verdict"] == "problem"]
    assert (model["found"], model["cure"]) == ("is no folder", "check its name")
    assert (output["found"], output["cure"]) == (f"there is no folder {here}/no", "make it first (mkdir -p)")
    assert json.loads(out)[-2:] == [model, output], "problems come last"
    assert run(["doctor", "-m", "smal"]) == 2
    assert "did you mean small?" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here))
    assert verdicts("small")["small"][0] == "problem"
    assert verdicts(None)["small"][0] == "advice"


@pytest.mark.usefixtures("no_devices", "here")
@pytest.mark.parametrize(
    ("output", "verdict", "found"),
    [
        ("/dev/null", "ok", "/dev/null: a device or a pipe; whether"),
        ("/dev/fd/999", "problem", "cannot write /dev/fd/999: no file is open there; open one in the shell (999>FILE)"),
        ("memory://b/x.csv", "ok", "memory://b/x.csv: in a store; whether"),
        ("foo://b/x.csv", "problem", "foo://b/x.csv: foo:// is not known; is its fsspec plug-in installed?"),
        ("https://b/x.csv", "problem", "https://b/x.csv: https:// can only be read"),
    ],
)
def test_doctor_on_an_output_that_is_no_file(output: str, verdict: str, found: str) -> None:
    said = verdicts(output=output)["output"]
    assert (said[0], said[1].startswith(found)) == (verdict, True), said


@pytest.mark.usefixtures("no_devices")
def test_doctor_on_rows_for_stdout_where_no_file_can_be_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.diagnostics.preflight._why_unwritable", lambda _: "Read-only file system")
    assert verdicts(output="out.csv")["output"] == (
        "problem",
        f"{here}: Read-only file system",
        "let this user write there",
    )
    assert verdicts(output="-")["output"] == verdicts()["output"]
    assert verdicts()["output"][0] == "advice"


def test_doctor_on_a_machine_that_lacks_everything(
    no_cache: Path, here: Path, monkeypatch: pytest.MonkeyPatch, refuse_locks: Refuse
) -> None:
    refuse_locks(errno.ENOSYS)
    (here / "torch").mkdir()
    (here / "torch" / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: failed to map segment')")
    monkeypatch.syspath_prepend(here)  # and not that of this process, which has the real one
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(2 << 20, 0.5, 4))
    monkeypatch.setattr("dinoclassify.diagnostics.preflight.temporary_folder", lambda: None)
    found = verdicts()
    assert found["torch"][:2] == ("problem", "cannot be imported: ImportError: libtorch_cpu.so: failed to map segment")
    assert found["cache"][0] == "advice"
    assert found["temporary"] == ("problem", "no folder that can be written to", "set TMPDIR to one")
    assert found["locks"][:2] == ("advice", "none: files stand for them")
    assert found["processes"] == (
        "problem",
        "4, threads included",
        "allow more: ulimit -u, or --pids-limit of the container",
    )
    assert found["processors"][:2] == ("ok", "0.5 by the control group")
    assert found["memory of the container"][0] == "problem"


@pytest.mark.usefixtures("no_devices")
def test_doctor_goes_on_where_a_look_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("dinoclassify.diagnostics.preflight.check_limits", fails)
    assert verdicts()["doctor"][:2] == ("problem", "ValueError: no such thing")


@pytest.mark.usefixtures("no_devices")
def test_doctor_fits_a_terminal_of_80_columns(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["doctor", "-o", "no/out.csv"]) == 1
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.strip() == "-> make it first (mkdir -p)" for line in lines)
