"""Folders and stores of pictures to look for inputs in."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.picture_tree import fill
from tests.helpers.servers import Store, store_server


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in."""
    return fill(tmp_path, monkeypatch)


@pytest.fixture
def shown_tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, which other users reach: pytest closes the folders above its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield fill(Path(folder), monkeypatch)
        monkeypatch.undo()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server of the S3 API."""
    with store_server(monkeypatch) as server:
        yield server
