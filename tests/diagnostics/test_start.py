"""What one image takes as a whole process: time, memory, cold and warm."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dinoclassify.diagnostics import start
from dinoclassify.diagnostics.start import Program, Run, StartError, ours, run_once, run_starts, summary, theirs


def python(script: str) -> list[str]:
    """A command that starts quickly."""
    return [sys.executable, "-I", "-S", "-c", script]


def test_the_peak_is_that_of_the_command_and_not_of_this_process(tmp_path: Path) -> None:
    ballast = b"x" * (300 << 20)  # a process that is started by one of this size may inherit its peak
    small = run_once(python("print(1)"), str(tmp_path))
    large = run_once(python("content = b'x' * (100 << 20)"), str(tmp_path))
    assert 3 < small.megabytes < 60
    assert 104 < large.megabytes < 170
    assert len(ballast) > 1e6 * small.megabytes


def test_the_peak_is_that_of_the_largest_process_and_core_time_that_of_all(tmp_path: Path) -> None:
    child = (
        "import os, time\n"
        "if not (pid := os.fork()):\n"
        "    content = b'x' * (100 << 20)\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    run = run_once(python(child), str(tmp_path))
    assert 104 < run.megabytes < 170
    assert 0.3 < run.core_seconds < 1
    assert run.seconds > 0.3


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^no such model$"):
        run_once(python("import sys; print('a warning', file=sys.stderr); sys.exit('no such model')"), str(tmp_path))
    with pytest.raises(StartError, match="exit code 5"):
        run_once(python("raise SystemExit(5)"), str(tmp_path))


def test_a_program_has_another_cache_and_none_of_our_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINOCLASSIFY_PREDICT_TOP_K", "5")
    home = str(tmp_path / "home")
    script = (
        "import os, sys\n"
        "sys.exit(' '.join([os.environ['XDG_CACHE_HOME'], str('DINOCLASSIFY_PREDICT_TOP_K' in os.environ)]))"
    )
    with pytest.raises(StartError, match=f"^{home} False$"):
        run_once(python(script), home)


def test_a_command_ends_when_bench_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    script = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupt() -> None:
        while not note.exists() or not note.read_text():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests ignore it
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_once(python(script), str(tmp_path))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    for _ in range(100):
        if not Path("/proc", note.read_text()).exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the command is still there")


@pytest.mark.parametrize("rounds", [1, 5])
def test_programs_run_in_turn_and_a_cold_one_with_an_empty_cache(
    rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, bool]] = []  # the runtime, and whether the cache had something

    def fake(command: Sequence[str], home: str) -> Run:
        if command[-1] == "a.jpg" and "-c" in command:
            raise StartError("no transformers")
        runs.append((os.path.basename(home), os.path.exists(f"{home}/network")))
        os.makedirs(home, exist_ok=True)
        Path(home, "network").touch()
        return Run(len(runs), 100.0, 0.5)

    monkeypatch.setattr(start, "run_once", fake)
    programs = ours("small", "a.jpg", str(tmp_path), runtimes=["openvino", "torch"], options=["--offline"])
    programs.append(theirs("folder", "a.jpg", str(tmp_path), device="cpu"))
    notes: list[str] = []
    run_starts(programs, rounds, notes)
    first = [("openvino", False), ("openvino", True), ("torch", False), ("torch", True)]
    assert runs[:4] == first, "cold; warm; what prepares torch is not measured"
    assert [len(program.runs) for program in programs] == [rounds] * 3
    assert sum(not had for _, had in runs) == rounds + 1
    assert notes == ["the warm start of transformers pipeline is not measured (no transformers)"]
    assert [(each.name, each.cache) for each in map(summary, programs)] == [
        ("dinoclassify, openvino", "cold"),
        ("dinoclassify, openvino", "warm"),
        ("dinoclassify, torch", "warm"),
    ]


def test_a_start_is_the_median_of_its_runs() -> None:
    runs = [Run(3.0, 300.0, 2.0), Run(1.0, 500.0, 3.0), Run(1.5, 100.0, 2.5)]
    found = summary(Program("x", "warm", [], "", runs))
    assert (found.seconds, found.least, found.most) == (1.5, 1.0, 3.0)
    assert (found.megabytes, found.core_seconds, found.runs) == (300, 2.5, 3)


def test_the_program_that_is_started_is_this_one(tmp_path: Path) -> None:
    import dinoclassify

    command, *_ = [program.command for program in ours("x", "a.jpg", "", runtimes=["torch"], options=[])]
    assert command[-6:] == ["dinoclassify", "predict", "-q", "-m", "x", "a.jpg"]
    interpreter = command[: command.index("-m")]
    script = "import dinoclassify; print(dinoclassify.__file__)"
    done = subprocess.run([*interpreter, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == dinoclassify.__file__
