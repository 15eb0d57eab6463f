"""Locales other than UTF-8: rows keep the bytes of names, and whoever reads them finds the images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.reader import read_predictions
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS, Cli

NAME = "grün.jpg"


@pytest.fixture(scope="session")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell with an ISO 8859-1 locale."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not there")
    subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", f"{folder}/de_DE.ISO-8859-1"], check=False, capture_output=True
    )
    environment = {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout
    if said != "iso8859-1\n":
        pytest.skip("localedef has no sources of de_DE in ISO 8859-1")
    return environment


@pytest.fixture(params=["ISO 8859-1", "ASCII"])
def locale(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "ASCII":
        return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found: dict[str, str] = request.getfixturevalue("latin1")
    return found


def test_rows_written_in_utf8_find_their_images_in_other_locales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, locale: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PHOTOS / "coffee.jpg", NAME)
    with open("labels.csv", "wb") as file:
        open_format("csv", 1).write(file, [Prediction(NAME, "ok", (Label("café", 1, 0.75),))], {})
    done = cli("sort", "labels.csv", "--into", "sorted", env=locale)
    assert (done.returncode, os.listdir("sorted/café")) == (0, [NAME]), done.stderr


def test_a_path_on_the_command_line_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, locale: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [NAME.encode(), b"gr\xfcn.jpg", b"new\nline \xff.jpg"]
    for name in names:
        shutil.copy(PHOTOS / "coffee.jpg", os.fsdecode(name))
    done = cli("predict", *map(os.fsdecode, names), "--list", "-0", "-q", env=locale)
    assert (done.returncode, done.stdout.split(b"\0")[:-1]) == (0, names), done.stderr


@pytest.mark.slow
def test_rows_are_the_same_whatever_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: str, locale: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("größe")
    for name in (NAME.encode(), b"gr\xfcn.jpg"):
        shutil.copy(PHOTOS / "coffee.jpg", f"größe/{os.fsdecode(name)}")
    command = ["predict", "größe", "-m", tiny, "-j", "2", "--batch-size", "1", "-o", "labels.jsonl"]
    assert cli(*command, env=locale).returncode == 0
    assert [row.path for row in read_predictions("labels.jsonl")] == [f"größe/{NAME}", "größe/gr\udcfcn.jpg"]
    before = Path("labels.jsonl").read_bytes()
    assert run([*command, "--resume"]) == 0
    assert Path("labels.jsonl").read_bytes() == before
    assert cli(*command, "--resume", env=locale).returncode == 0
    assert Path("labels.jsonl").read_bytes() == before


@pytest.mark.parametrize("flags", [[], ["-E"], ["-X", "utf8=0"]])
def test_python_restarts_once_in_utf8_mode_with_the_same_arguments(flags: list[str], latin1: dict[str, str]) -> None:
    code = """
import os, sys
from dinoclassify.__main__ import restart_in_utf8_mode
print(os.getpid(), flush=True)
restart_in_utf8_mode()
print(sys.flags.utf8_mode, sys.flags.dev_mode, sys.warnoptions[-1], list(map(os.fsencode, sys.argv)))
"""
    command = [sys.executable, *flags, "-X", "dev", "-W", "error::UserWarning", "-c", code, NAME, "gr\udcfcn", "", "-W"]
    if "-E" in flags:
        code = f"import sys; sys.path[:0] = {sys.path!r}{code}"  # which is not in the environment
        command[command.index("-c") + 1] = code
    done = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **latin1})
    first, second, said = done.stdout.decode().splitlines()
    assert first == second
    assert said == f"1 True error::UserWarning {[b'-c', NAME.encode(), bytes([103, 114, 0xFC, 110]), b'', b'-W']}"


def test_python_does_not_restart_where_all_is_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    from dinoclassify.__main__ import restart_in_utf8_mode

    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it began again"))
    restart_in_utf8_mode()
