"""`models`: the size of the cache, and how to empty it."""

import errno
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from dinoclassify.storage.cache.folder import find_kept, kept_folder
from dinoclassify.storage.lock import flocked
from tests.helpers.invoke import Invoke, invoker


@pytest.fixture
def models(capfd: pytest.CaptureFixture[str]) -> Invoke:
    return invoker(capfd, "models")


def write_made(size: int, folder: Path) -> None:
    (folder / "made").write_bytes(bytes(size))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of two folders, 3,000 bytes and their manifests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("dinoclassify.storage.cache.folder._temporary_for", {})
    for name, size in (("one", 1000), ("two", 2000)):
        kept_folder(name, {}, partial(write_made, size))
    return tmp_path / "dinoclassify"


def test_the_size_of_the_cache_is_on_stderr_below_the_table(models: Invoke, root: Path) -> None:
    code, out, err = models()
    assert (code, len(out.splitlines())) == (0, 10)
    assert err.startswith(f"dinoclassify: cache: {root}, 3.")
    assert err.endswith(" kB in 2 entries; --clear-cache empties it\n")


def test_json_has_the_models_alone(models: Invoke, root: Path) -> None:
    code, out, err = models("--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)) == 9
    code, out, err = models("--json", "--clear-cache")
    assert (code, out) == (2, "")
    assert "--clear-cache prints no table: leave out --json" in err


def test_the_cache_is_emptied_and_says_what_that_freed(models: Invoke, root: Path) -> None:
    code, out, err = models("--clear-cache")
    assert (code, out) == (0, "")
    assert err.startswith(f"dinoclassify: {root}: freed 3.")
    assert err.endswith(" kB in 2 entries\n")
    assert models("--clear-cache") == (0, "", f"dinoclassify: {root}: nothing to remove\n")
    assert models()[2] == f"dinoclassify: cache: {root}, empty\n"


def test_an_entry_in_use_stays_and_is_counted(models: Invoke, root: Path) -> None:
    (lock,) = root.glob("one-*.lock")
    with open(flocked(str(lock), wait=False), "rb"):
        code, _, err = models("--clear-cache")
    assert code == 0
    assert err.endswith(" kB in 1 entry, 1 entry in use by another process left\n")
    assert find_kept("one", {}) is not None


def test_what_cannot_be_removed_is_one_line_with_the_cure(
    models: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{path}/made")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    code, out, err = models("--clear-cache")
    assert (code, out, err.count("\n")) == (6, "", 1)
    assert err.startswith(f"dinoclassify: cannot remove {root}/")
    assert err.endswith("/made (Permission denied) and 1 more: run this as the user who owns it; nothing to remove\n")


def test_a_cache_that_cannot_be_read_is_one_line(models: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("measure", "clear"):
        monkeypatch.setattr(f"dinoclassify.storage.cache.upkeep.{name}", refuse)
    code, out, err = models()
    assert (code, len(out.splitlines())) == (0, 10)
    assert err == f"dinoclassify: cache: {root} cannot be read (Permission denied)\n"
    cure = "run this as the user who owns it"
    assert models("--clear-cache") == (
        6,
        "",
        f"dinoclassify: cannot read the cache {root} (Permission denied): {cure}\n",
    )


def test_a_cache_that_was_never_made_is_empty(models: Invoke, no_cache: Path) -> None:
    assert models()[2] == f"dinoclassify: cache: {no_cache.parent}/file/dinoclassify, empty\n"
    assert models("--clear-cache")[0] == 0
