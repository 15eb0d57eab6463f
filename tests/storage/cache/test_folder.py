"""The cache of converted models and other folders that are costly to make."""

import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dinoclassify.storage.cache.folder import cache_root, find_kept, kept_folder
from tests.conftest import Refuse


def write_made(folder: Path) -> None:
    (folder / "made").write_text("made")


def test_a_warning_about_an_unwritable_cache_is_logged_once_with_the_cure(
    no_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = kept_folder("a", {}, write_made)
    assert (first / "made").read_text() == "made"
    assert first.parent == no_cache
    assert kept_folder("a", {}, write_made) == first
    kept_folder("b", {}, write_made)
    (message,) = caplog.messages
    assert message.startswith(
        f"nothing can be kept in {no_cache.parent}/file/dinoclassify (Not a directory), so every "
    )
    assert "set XDG_CACHE_HOME to a folder" in message


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/models/gone.safetensors"),
        PermissionError(errno.EACCES, "Permission denied", "/models/model.safetensors"),
        OSError(errno.ENOSPC, "No space left on device", "/tmp/elsewhere"),
        OSError(errno.EIO, "Input/output error"),
        OSError("no number and no file"),
    ],
)
def test_an_error_of_the_maker_itself_is_raised_at_once(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[Path] = []

    def fail(folder: Path) -> None:
        calls.append(folder)
        raise error

    with pytest.raises(OSError, match=re.escape(str(error))):
        kept_folder("a", {}, fail)
    assert len(calls) == 1
    assert caplog.messages == []
    assert [path.name for path in (tmp_path / "dinoclassify").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("number", "is_named"), [(errno.ENOSPC, False), (errno.ESTALE, False), (errno.ENOSPC, True), (errno.EACCES, True)]
)
def test_a_cache_that_the_maker_cannot_write_to_is_replaced_by_a_temporary_folder(
    number: int, is_named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def write(folder: Path) -> None:
        if folder.is_relative_to(tmp_path):
            raise OSError(number, "cannot be written", *([str(folder / "made")] if is_named else []))
        write_made(folder)

    assert (kept_folder(f"{number}-{is_named}", {}, write) / "made").read_text() == "made"
    assert f"nothing can be kept in {tmp_path}/dinoclassify (cannot be written)" in caplog.text


def test_temporary_folders_of_killed_runs_are_removed_and_those_of_others_stay(no_cache: Path) -> None:
    code = """
import sys, tempfile, time
from dinoclassify.storage.cache.folder import kept_folder
tempfile.tempdir = sys.argv[1]
print(kept_folder(sys.argv[2], {}, lambda folder: None), flush=True)
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
            mine = kept_folder("c", {}, write_made)
            assert used.is_dir()
            assert others.is_dir()
            assert mine.is_dir()
    kept_folder("d", {}, write_made)
    assert not used.exists()


def test_the_cache_is_used_even_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_locks: Refuse, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refuse_locks(errno.ENOLCK)
    made = kept_folder("a", {}, write_made)
    assert made.parent == tmp_path / "dinoclassify"
    assert find_kept("a", {}) is not None

    def slow(folder: Path) -> None:
        write_made(folder)
        shutil.copytree(made, cache_root() / f"b-{made.name[-8:]}")  # another process is faster

    assert (kept_folder("b", {}, slow) / "made").exists()
    assert caplog.messages == []
