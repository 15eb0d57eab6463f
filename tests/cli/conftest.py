"""Fixtures of the tests of commands."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.commands import Invoke
from tests.helpers.invoke import invoker


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run the command in this process: (exit code, stdout, stderr)."""
    return invoker(capfd)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good and broken images in `photos`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/broken.jpg").write_bytes(Path("photos/coffee.jpg").read_bytes()[:9000])
    Path("photos/text.png").write_text("not an image")
    return tmp_path
