"""Rows that are streamed to stdout, devices, pipes and open files such as /dev/fd/3."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.errors import OutputClosedError, OutputError, UsageError
from dinoclassify.storage.atomic import descriptor_of
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.fingerprint import write_meta
from dinoclassify.writers.formats import choose_format, open_format
from dinoclassify.writers.stream import check_output, stream_rows
from tests.conftest import PHOTOS
from tests.helpers.prediction_files import ROWS, write_rows

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="/dev/fd is not there")


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of one row that `merge` accepts."""
    monkeypatch.chdir(tmp_path)
    with open("part.csv", "wb") as file:
        open_format("csv", 1).write(file, [Prediction(str(PHOTOS / "coffee.jpg"), "ok", (Label("cup", 1, 0.5),))], {})
    write_meta("part.csv.meta.json", {"made_with": {"format": "csv", "top-k": 1}})
    return "part.csv"


@pytest.fixture
def descriptor(part: str) -> Iterator[int]:
    """An inherited descriptor of a file that has one line already."""
    descriptor = os.open("out", os.O_WRONLY | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    os.write(descriptor, b"first\n")
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_rows_are_written_after_what_others_have_written(descriptor: int, part: str, folder: str) -> None:
    if not os.path.exists(folder):
        pytest.skip(f"{folder} is not there")
    assert run(["merge", part, "-q", "-o", f"{folder}/{descriptor}"]) == 0
    os.write(descriptor, b"last\n")
    assert Path("out").read_text() == f"first\n{Path(part).read_text()}last\n"


def test_a_page_is_written_after_what_others_have_written(descriptor: int, part: str) -> None:
    assert run(["report", part, "-q", "--link", "-o", "page.html"]) == 0
    assert run(["report", part, "-q", "--link", "-o", f"/dev/fd/{descriptor}"]) == 0
    os.write(descriptor, b"last\n")
    assert Path("out").read_text() == f"first\n{Path('page.html').read_text()}last\n", "its links begin here too"


def test_failed_paths_are_written_between_what_others_write(descriptor: int) -> None:
    with writing_paths(f"/dev/fd/{descriptor}", null=False) as write:
        write("a.jpg")
        os.write(descriptor, b"in between\n")
        write("b.jpg")
    os.write(descriptor, b"last\n")
    assert Path("out").read_text() == "first\na.jpg\nin between\nb.jpg\nlast\n"


@pytest.mark.parametrize(("name", "number"), [("/dev/stdout", 1), ("/dev/stderr", 2)])
def test_the_shell_writes_on_after_the_rows(part: str, name: str, number: int) -> None:
    command = f"({sys.executable} -m dinoclassify merge {part} -q -o {name}; echo last >&{number}) {number}> out"
    subprocess.run(["bash", "-c", command], check=True, timeout=60)
    assert Path("out").read_text() == f"{Path(part).read_text()}last\n"


@pytest.mark.parametrize(
    "option",
    [
        ["merge", "part.csv", "-o"],
        ["report", "part.csv", "-o"],
        ["predict", ".", "-m", "./no-model", "-o"],
        ["predict", ".", "-m", "./no-model", "-o", "out.csv", "--errors-to"],
    ],
)
def test_a_closed_descriptor_is_refused_before_the_work(
    part: str, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = os.open("part.csv", os.O_RDWR)  # a file of this process, and not of whoever started it
    for number in (ours, 987, 99999999999):
        assert run([*option, f"/dev/fd/{number}"]) == 6
        message = f"cannot write /dev/fd/{number}: no file is open there; open one in the shell ({number}>FILE)"
        assert capsys.readouterr().err == f"dinoclassify: {message}, or name a file\n"
    os.close(ours)


def test_a_descriptor_that_is_only_open_for_reading_is_refused(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    reader = os.open("part.csv", os.O_RDONLY)
    os.set_inheritable(reader, True)
    assert run(["merge", part, "-o", f"/dev/fd/{reader}"]) == 6
    assert "it is open for reading alone; name a file" in capsys.readouterr().err
    os.close(reader)


def test_sqlite_needs_a_regular_file_under_any_name(
    descriptor: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("-", "/dev/stdout", f"/dev/fd/{descriptor}"):
        assert run(["merge", part, "-f", "sqlite", "-o", name]) == 2
        assert "--format sqlite needs a regular file: name one with --output" in capsys.readouterr().err


def test_parquet_is_refused_on_a_terminal_under_any_name(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal, program = os.openpty()
    os.set_inheritable(program, True)
    assert run(["merge", part, "-f", "parquet", "-o", f"/dev/fd/{program}"]) == 2
    assert "--format parquet is not for a terminal: name a file with --output" in capsys.readouterr().err
    os.close(program)
    os.close(terminal)


def test_a_closed_reader_raises_output_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(OutputClosedError):
        stream_rows(f"/dev/fd/{writer}", open_format("csv", 1), [Prediction("a.jpg", "ok", (Label("cup", 1, 0.5),))])
    os.close(writer)


def test_names_of_open_files_give_their_descriptors() -> None:
    names = ["/dev/stdout", "/dev/stderr", "/dev/fd/7", "/proc/self/fd/12", f"/proc/{os.getpid()}/fd/3"]
    assert list(map(descriptor_of, names)) == [1, 2, 7, 12, 3]
    others = ["/dev/null", "/dev/stdout.csv", "/proc/1/fd/3", "stdout", "/dev/fd/x", "/dev/fd/"]
    assert [name for name in others if descriptor_of(name) is not None] == []


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        check_output(str(tmp_path / "no" / "out.csv"), choose_format(None, "csv"))
    with pytest.raises(OutputError, match="it is a folder"):
        check_output(str(tmp_path), choose_format(None, "csv"))
    with pytest.raises(
        UsageError, match=r"--format xml: choose csv, tsv, jsonl, csv.gz, tsv.gz, jsonl.gz, parquet, sqlite"
    ):
        choose_format(None, "xml")
    with pytest.raises(UsageError, match="sqlite needs a regular file"):
        check_output("/dev/null", choose_format(None, "sqlite"))
    with pytest.raises(UsageError, match="sqlite needs a regular file"):
        check_output(None, choose_format(None, "sqlite"))


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices can be made by root alone")
    write_rows(device, "csv")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert os.listdir(tmp_path) == ["null"]


@pytest.mark.parametrize("format_name", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_an_output_error(format_name: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is not there")
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"):
        write_rows(Path("/dev/full"), format_name)


def test_an_error_of_the_run_is_not_taken_for_one_of_the_output() -> None:
    def broken() -> Iterator[Prediction]:
        yield ROWS[0]
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        stream_rows(os.devnull, open_format("csv", 2), broken())
