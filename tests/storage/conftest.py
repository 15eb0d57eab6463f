"""A web server, and an empty cache."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.storage.cache import folder
from dinoclassify.storage.remote import retries
from tests.helpers.servers import Web, web_server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(retries, "BACKOFF", 0.01)
    with web_server() as server:
        yield server


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("_temporary_for", "_warned_about", "_swept"):
        monkeypatch.setattr(folder, name, type(getattr(folder, name))())
    root = tmp_path / "cache" / "dinoclassify"
    root.mkdir(parents=True)
    return root


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
