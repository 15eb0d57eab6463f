"""The other commands, the help, and the speed of it."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dinoclassify
from dinoclassify.cli import run
from dinoclassify.cli.terminal import print_table
from dinoclassify.messages import count_of
from tests.conftest import PHOTOS, ROOT, Cli

GOLDEN = ROOT / "tests" / "golden"
IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}  # each is a line of stderr


@pytest.mark.parametrize(
    "command",
    [
        "",
        "predict",
        "merge",
        "embed",
        "train",
        "evaluate",
        "sort",
        "tag",
        "report",
        "bench",
        "models",
        "doctor",
        "guide",
    ],
)
def test_help_is_the_golden_text_and_imports_nothing_heavy(
    command: str, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To update a text: `COLUMNS=100 dinoclassify COMMAND --help > tests/golden/help-COMMAND.txt`."""
    done = cli(*command.split(), "--help", env=IMPORTS | {"COLUMNS": "100", "TERM": "dumb"})
    assert done.returncode == 0
    assert done.stdout.decode() == (GOLDEN / f"help-{command or 'dinoclassify'}.txt").read_text()
    assert_imports_are_light(done.stderr)
    monkeypatch.setenv("COLUMNS", "100")
    assert run([*command.split(), "-h"]) == 0
    assert capsys.readouterr().out == done.stdout.decode()


def test_version_is_printed_without_heavy_imports(cli: Cli) -> None:
    done = cli("--version", env=IMPORTS)
    assert done.stdout.decode() == f"dinoclassify {dinoclassify.__version__}\n"
    assert_imports_are_light(done.stderr)


def assert_imports_are_light(stderr: bytes) -> None:
    """Check that stderr has only import times, and none of a heavy package."""
    lines = stderr.decode().splitlines()
    assert [line for line in lines if not line.startswith("import time: ")] == []
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert "dinoclassify" in imported
    assert imported.isdisjoint({"torch", "transformers", "pandas", "numpy", "PIL", "pyarrow", "huggingface_hub"})


def test_no_arguments_print_the_help(cli: Cli) -> None:
    done = cli(env={"COLUMNS": "100", "TERM": "dumb"})
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().rstrip() == (GOLDEN / "help-dinoclassify.txt").read_text().rstrip()


@pytest.mark.parametrize("arguments", ["--help", "--version", "predict --help"])
def test_help_ends_quietly_on_a_closed_pipe_and_with_an_error_on_a_full_disk(arguments: str) -> None:
    command = f"{sys.executable} -m dinoclassify {arguments}"
    done = subprocess.run(["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
    done = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (6, "dinoclassify: cannot write stdout: No space left on device\n")


def test_tables_end_quietly_on_a_closed_pipe_and_with_an_error_on_a_full_disk() -> None:
    command = f"{sys.executable} -m dinoclassify models"
    done = subprocess.run(["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
    done = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True)
    message = "dinoclassify: cannot write stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (6, message)


def test_models_prints_tab_separated_lines_in_a_pipe_and_json_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:2] == ["name", "model"]
    assert lines[1].split("\t")[:4] == ["small", "facebook/dinov2-small-imagenet1k-1-layer", "22 M", "81.1"]
    assert run(["models", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == ["small", "base", "large", "giant", "small-reg", "base-reg", "large-reg", "giant-reg", "builtin"]


def test_models_shows_which_models_are_on_this_machine(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoints: Callable[[str], Path],
) -> None:
    from tests.helpers.models import put_into_cache

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = put_into_cache(tmp_path, checkpoints("dinov2"))
    run(["models", "--json"])
    cached = {row["name"]: row["on_this_machine"] for row in json.loads(capsys.readouterr().out)}
    assert cached["small"] == str(snapshot)
    assert cached["base"] is None


def test_doctor_lists_versions_devices_and_missing_extras(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["doctor", "--json"]) == 0
    findings = {(row["topic"], row["name"]): row for row in json.loads(capsys.readouterr().out)}
    assert findings["version", "dinoclassify"]["found"] == dinoclassify.__version__
    assert re.match(r"\d+ processors", findings["device", "cpu"]["found"])
    assert findings["decoder", "jpeg"]["found"] != "missing"
    monkeypatch.setattr("dinoclassify.diagnostics.doctor.find_spec", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("dinoclassify.diagnostics.doctor.is_builtin_installed", lambda: False)
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "heif\tmissing\tpip install 'dinoclassify[heif]'" in out
    assert "builtin\tmissing\tpip install 'dinoclassify[offline]'" in out


def test_tables_on_a_terminal_have_boxes_and_print_markup_in_names_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table([{"name": "[bold]x[/red]", "found": None}], as_json=False)
    out = capsys.readouterr().out
    assert "[bold]x[/red]" in out
    assert "─" in out


def test_an_error_of_an_import_that_a_signal_interrupted_is_reported_as_the_signal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinoclassify.cli.runs import signals

    def fails(*_: object) -> None:
        signals.stopped.append(signals.Stopped(15))  # and the library has made something else of it
        raise AttributeError("partially initialized module 'numpy' has no attribute 'void'")

    stopped: list[signals.Stopped] = []
    monkeypatch.setattr(signals, "stopped", stopped)
    monkeypatch.setattr("dinoclassify.cli.app.stopped", stopped)
    monkeypatch.setattr("dinoclassify.diagnostics.doctor.examine", fails)
    assert run(["doctor"]) == 143
    assert capsys.readouterr().err == "dinoclassify: stopped by SIGTERM\n"


@pytest.mark.parametrize(
    "module",
    ["dinoclassify.cli", "typer.core", "dinoclassify.cli.group", "dinoclassify.cli.commands.predict", "numpy", "torch"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_import_is_one_line(module: str, number: signal.Signals, tiny: str) -> None:
    code = """
import os, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), number)
module, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
sys.meta_path.insert(0, Interrupts())
from dinoclassify.__main__ import main
main()
"""
    command = [sys.executable, "-c", code, module, str(int(number)), "predict", str(PHOTOS), "-m", tiny]
    done = subprocess.run([*command, "--runtime", "torch"], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"dinoclassify: stopped by {number.name}\n"


@pytest.mark.parametrize("moment", [0.02, 0.05, 0.08, 0.11, 0.14, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7])
def test_an_early_interrupt_prints_no_traceback_of_our_code(moment: float) -> None:
    """Before our first line runs, Python itself is starting, and may print its own traceback."""
    command = [sys.executable, "-c", "from dinoclassify.__main__ import main; main()", "doctor"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=200)
    ours = Path(dinoclassify.__file__).parent
    later = err.replace(f"{ours}/__init__.py", "").replace(f"{ours}/__main__.py", "")  # which Python begins with
    assert process.returncode in (0, 130) or (process.returncode in (1, -signal.SIGINT) and f"{ours}/" not in later)
    if process.returncode == 130:
        assert err == "dinoclassify: stopped by SIGINT\n"


def test_a_signal_ends_the_process_even_if_a_library_swallows_it() -> None:
    code = """
import os, signal, time
from dinoclassify.cli.runs import signals
signals.GRACE = 0.5
signal.signal(signal.SIGTERM, signals.stop_at_once)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
except BaseException:
    pass
time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 143


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2000, "row", "2,000 rows"), (2, "class", "2 classes")],
)
def test_a_count_of_one_is_in_the_singular(number: int, name: str, text: str) -> None:
    assert count_of(number, name) == text
