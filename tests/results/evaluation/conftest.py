"""Fixtures of the tests of `evaluate`."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.guesses import SAMPLES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with the sample images in folders named after what is in them."""
    monkeypatch.chdir(tmp_path)
    for name, wnid in SAMPLES.items():
        Path("test", wnid).mkdir(parents=True)
        shutil.copy(PHOTOS / name, Path("test", wnid))
    return tmp_path
