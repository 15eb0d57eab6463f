"""How a run of `predict` ends when its reader is closed or a signal comes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinoclassify.cli import run
from tests.conftest import by_fork
from tests.helpers.commands import HEADER, parse_rows
from tests.helpers.crash import nothing_is_left_of, size_of
from tests.helpers.prepared import Program


@pytest.mark.parametrize(("end", "code"), [("closed", 0), ("terminated", 143)])
def test_a_run_ends_although_its_list_on_stdin_goes_on(here: Path, tiny: str, end: str, code: int) -> None:
    command = [sys.executable, "-m", "dinoclassify", "predict", "-", "-m", tiny, "-q"]
    with Program(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("photos/coffee.jpg\n" * 100)
        process.stdin.flush()
        assert [process.stdout.readline()[:5] for _ in range(3)] == ["path,", "photo", "photo"]
        if end == "closed":
            process.stdin.write("photos/coffee.jpg\n" * 2000)  # while it reads: once it has gone there is no pipe
            process.stdin.flush()
            process.stdout.close()
        else:
            process.terminate()
        assert process.wait(timeout=100) == code
        assert not re.search("Fatal|Traceback", process.stderr.read())


def test_a_closed_reader_ends_the_run_quietly(here: Path, tiny: str) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = f"{sys.executable} -m dinoclassify predict --files-from list -m {tiny}"
    script = f"{command} | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=200)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert (lines[0], len(lines), lines[-1]) == (HEADER, 4, "0")


def test_closed_stdout_is_an_error(here: Path, tiny: str) -> None:
    command = f"{sys.executable} -m dinoclassify predict photos -m {tiny}"
    done = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (6, "dinoclassify: stdout is closed: name a file with --output\n")


@pytest.mark.parametrize("command", ["predict photos --list", "models", "models --json"])
def test_closed_stdout_is_an_error_of_commands_that_print(here: Path, command: str) -> None:
    script = f"{sys.executable} -m dinoclassify {command} >&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (6, "dinoclassify: stdout is closed: open it, such as with > FILE\n")


def test_messages_stay_out_of_stdout_where_stderr_is_closed(here: Path) -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m dinoclassify predict 'none*' 2>&-"], capture_output=True)
    assert (done.returncode, done.stdout) == (4, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_the_run_and_keep_its_rows(here: Path, tiny: str, number: signal.Signals, code: int) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    Path("out.csv").write_text("old")
    arguments = ["predict", "--files-from", "list", "-m", tiny, "-o", "out.csv"]
    script = (
        "from dinoclassify.cli.runs import signals; signals.GRACE = 90.0;from dinoclassify.__main__ import main; main()"
    )
    with Program(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        partial = Path("out.csv.partial")
        while size_of(partial) <= 1000:
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=100)
    assert process.returncode == code
    assert re.fullmatch(
        r"dinoclassify: stopping after the batches under way; again to stop at once\n"
        rf"dinoclassify: stopped by {number.name} after [\d,]+ images; "
        r"finished rows are in out.csv.partial, --resume goes on\n",
        err,
    )
    assert Path("out.csv").read_text() == "old"
    assert partial.read_bytes().endswith(b"\n")
    assert len(parse_rows(partial.read_text())) == int(err.splitlines()[1].split()[5].replace(",", ""))
    assert len(parse_rows(partial.read_text())) < 100_000
    assert nothing_is_left_of(process.pid)


@by_fork
@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once(here: Path, tiny: str) -> None:
    for signals, grace in ((1, 1.0), (2, 500.0)):
        script = (
            "import dinoclassify.decoding.loader as loader, dinoclassify.cli as cli, time\n"
            f"from dinoclassify.cli.runs import signals; signals.GRACE = {grace}\n"
            "loader.decode = lambda *_, **__: (open('begun', 'w').close(), time.sleep(1000))\n"
            f"import sys; sys.argv[1:] = ['predict', 'photos', '-m', {tiny!r}, '-o', 'out.csv']\n"
            "cli.main()\n"
        )
        with Program[bytes]([sys.executable, "-c", script], stderr=subprocess.PIPE, start_new_session=True) as process:
            assert process.stderr is not None
            while not os.path.exists("begun"):
                time.sleep(0.05)
            process.terminate()
            assert b"again to stop at once" in process.stderr.readline()
            if signals == 2:
                process.terminate()
            assert process.wait(timeout=200) == 143  # long before the second grace is over
        for name in ("begun", "out.csv.partial.meta.json", "out.csv.partial"):
            os.unlink(name)
        assert nothing_is_left_of(process.pid)


def interrupted_in_loading(tiny: str, runtime: str) -> tuple[int, str, str]:
    """The exit code and the output of a run that gets SIGINT when it has begun to import the library of a runtime."""
    command = [sys.executable, "-m", "dinoclassify", "predict", "photos", "-m", tiny, "--runtime", runtime]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and f"lib{runtime}" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_a_signal_while_the_model_loads_is_one_line(here: Path, tiny: str) -> None:
    assert interrupted_in_loading(tiny, "torch") == (130, "", "dinoclassify: stopped by SIGINT\n")


def test_a_signal_while_a_compiled_network_loads_leaves_no_row(here: Path, tiny: str) -> None:
    """The run has begun by then: workers decode, and the header of the output may be written."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    assert run(["predict", "photos", "-m", tiny, "--runtime", "openvino", "-o", "first.csv"]) == 3  # one is broken
    code, out, err = interrupted_in_loading(tiny, "openvino")
    assert code == 130
    assert len(out.splitlines()) <= 1
    assert err.splitlines()[-1] in ("dinoclassify: stopped by SIGINT", "dinoclassify: stopped by SIGINT after 0 images")
    assert len(err.splitlines()) <= 2
