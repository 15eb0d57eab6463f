"""Folders and stores of images to look for inputs in."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.image_tree import fill
from tests.helpers.servers import Store, store_server


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, which becomes the current one."""
    return fill(tmp_path, monkeypatch)


@pytest.fixture
def shown_tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, readable by other users: pytest's own folders are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield fill(Path(folder), monkeypatch)
        monkeypatch.undo()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server of the S3 API."""
    with store_server(monkeypatch) as server:
        yield server
