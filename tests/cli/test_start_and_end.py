"""What the program imports before its work begins, and how its process ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dinoclassify.cli.app import app
from dinoclassify.cli.group import SUMMARIES
from tests.conftest import PHOTOS, Cli

SLOW = {
    *("aiohttp", "asyncio", "email", "fsspec", "http", "importlib.metadata", "multiprocessing", "rich", "ssl"),
    *("numpy", "pandas", "PIL", "pathspec", "pyarrow", "pydantic", "tarfile", "torch", "tqdm", "transformers"),
    *("zipfile", "huggingface_hub", "openvino", "sqlite3"),
}
PREDICT_ONLY = {
    *("dinoclassify.discovery.discover", "dinoclassify.storage.atomic", "dinoclassify.storage.reader"),
    "dinoclassify.writers.target",
}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group

UP_TO_THE_MODEL = """
import sys
from dinoclassify.cli import run
from dinoclassify.cli.commands import predict

def show_modules(*_):
    print(*sys.modules)
    sys.exit()

predict._open_job = show_modules
run(sys.argv[1:])
"""


@pytest.mark.parametrize("arguments", ["--version", "--help"])
def test_the_list_of_commands_is_shown_without_the_modules_of_any(cli: Cli, arguments: str) -> None:
    done = cli(arguments, env={"PYTHONPROFILEIMPORTTIME": "1"})
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "dinoclassify.cli.app" in modules
    assert slow_among(modules) | (modules & PREDICT_ONLY) == set()
    assert [name for name in modules if name.startswith("dinoclassify.cli.commands.")] == []


@pytest.mark.parametrize("arguments", [[], ["--exclude", "*.gif"], ["--format", "jsonl", "-k", "3"]])
def test_a_run_on_local_files_imports_nothing_slow_before_it_opens_the_model(arguments: list[str]) -> None:
    photo = str(next(PHOTOS.glob("*.jpg")))
    command = [sys.executable, "-c", UP_TO_THE_MODEL, "predict", photo, "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert modules >= PREDICT_ONLY
    assert slow_among(modules) == ({"pathspec"} if "--exclude" in arguments else set())
    assert {name for name in modules if name.startswith("dinoclassify.cli.commands.")} == {
        "dinoclassify.cli.commands.predict"
    }


def slow_among(modules: set[str]) -> set[str]:
    """The packages of these modules that are slow to import."""
    return {name for name in SLOW if name in modules}


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_list_of_commands_has_the_first_paragraph_of_each_help(name: str) -> None:
    assert COMMANDS[name].help.split("\n\n")[0] == SUMMARIES[name]


@pytest.mark.parametrize("name", SUMMARIES)
def test_each_option_converts_its_value_without_pydantic(name: str) -> None:
    command = COMMANDS[name]
    context = typer.Context(command, help_option_names=["-h", "--help"])  # as of the group: the command keeps them
    assert [each.name for each in command.get_params(context) if "get_runtime_param" not in vars(each)] == []


ENDING = """
import atexit, sys, threading, time
import dinoclassify.cli.app as app

def work(_):
    thread = threading.Thread(target=lambda: (time.sleep(0.2), open("thread", "w").close()))
    thread.start()
    atexit.register(lambda: open("at exit", "w").close())
    print("row")
    return 3

app.run = work
class Kept:
    def __del__(self):
        open("torn down", "w").close()
kept = Kept()
from dinoclassify.__main__ import main
main()
"""


def test_the_end_waits_for_threads_and_runs_what_is_registered_but_tears_nothing_down(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "row\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at exit", "thread"]


@pytest.mark.parametrize(
    ("reader", "code", "message"),
    [("| true", 0, ""), ("> /dev/full", 6, "dinoclassify: cannot write stdout: No space left on device\n")],
)
def test_what_is_printed_last_is_quiet_on_a_closed_pipe_and_an_error_on_a_full_disk(
    tmp_path: Path, reader: str, code: int, message: str
) -> None:
    command = f'{sys.executable} -c "$1" {reader}; exit ${{PIPESTATUS[0]}}'
    environment = os.environ | {"PYTHONUNBUFFERED": ""}  # else `work` itself would fail
    script = ["bash", "-c", command, "-", ENDING.replace("return 3", "time.sleep(0.5); return 0")]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at exit", "thread"]


@pytest.mark.parametrize("place", ["2> /dev/full", "2> >(true)"])
def test_a_run_goes_on_where_its_messages_cannot_be_written(place: str, tmp_path: Path) -> None:
    """The disk of a cron job's log is full, or the reader of stderr has gone."""
    (tmp_path / "broken.jpg").touch()
    command = f"sleep 0.2; {sys.executable} -m dinoclassify predict -v -m builtin {PHOTOS} . {place}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    rows = done.stdout.splitlines()
    assert (done.returncode, len(rows), done.stderr) == (3, 1 + 5 + 1, "")


WITHOUT_STDERR = """
import os
from dinoclassify.cli.terminal import hush, keep_stderr_from_failing

def is_file(number, path):
    return os.path.samestat(os.fstat(number), os.stat(path))

keep_stderr_from_failing()
with open("lock", "w") as lock:
    print(is_file(2, os.devnull), is_file(lock.fileno(), "lock"))
    hush()
    print(is_file(2, os.devnull), is_file(lock.fileno(), "lock"))
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stderr(closed: str, tmp_path: Path) -> None:
    command = ["bash", "-c", f'{sys.executable} -c "$1" {closed}', "-", WITHOUT_STDERR]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True True\n" * 2)


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_a_closed_stderr_is_no_output(closed: str) -> None:
    command = f"{sys.executable} -m dinoclassify predict -m builtin {PHOTOS} -f csv -o /dev/stderr {closed}"
    assert subprocess.run(["bash", "-c", command]).returncode == 6


def test_a_closed_stdout_is_an_error_where_all_are_closed() -> None:
    command = f"{sys.executable} -m dinoclassify models <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 6
