"""Fixtures of the tests of `tag`."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.invoke import Invoke, invoker


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image in a folder of its own."""
    return Path(shutil.copy(PHOTOS / "camera.jpg", tmp_path / "x.jpg"))


@pytest.fixture
def tag(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run `tag` in this process: (exit code, stdout, stderr)."""
    return invoker(capfd, "tag")
