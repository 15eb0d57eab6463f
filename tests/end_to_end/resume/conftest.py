"""Photos to stand in, and `predict` in the process of the test."""

import shutil
from pathlib import Path

import pytest

from dinoclassify.cli import run as run_command
from tests.conftest import PHOTOS
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

    def call(*arguments: str) -> tuple[int, str]:
        code = run_command(["predict", "-m", tiny, "--batch-size", "4", *arguments])
        return code, capfd.readouterr().err

    return call
