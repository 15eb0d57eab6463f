"""Fixtures of the tests of `train`."""

from pathlib import Path

import pytest

from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke, invoker


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with images of three colours, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, colour in COLOURS.items():
        for number in range(8):
            paint(Path(f"labelled/{name}/{number}.png"), colour, number)
    return tmp_path


@pytest.fixture
def train(tiny: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command in this process: (exit code, stdout, stderr)."""
    # The tests of `train_head` try all of them, and repeat.
    monkeypatch.setattr("dinoclassify.training.head.STRENGTHS", (0.01, 0.1, 1.0))
    monkeypatch.setattr("dinoclassify.training.train.REPETITIONS", 1)
    return invoker(capfd, "train", "-m", tiny, "--runtime", "torch")
