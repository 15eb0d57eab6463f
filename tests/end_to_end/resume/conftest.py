"""Photos to stand in, and `predict` in the process of the test."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.invoke import message_invoker
from tests.helpers.resumed import Predict


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/text.png").write_text("not an image")
    return tmp_path


@pytest.fixture
def predict(tiny: str, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Run the command in this process: (exit code, stderr)."""
    return message_invoker(capfd, "predict", "-m", tiny, "--batch-size", "4")
