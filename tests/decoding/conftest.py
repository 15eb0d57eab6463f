"""Images that crash the process decoding them, both feeds, and a check that no process is left after a test."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.decoding.loader import FeedName, starter_of
from tests.helpers.hostile import hostile


@pytest.fixture
def images(greys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images n.png of grey level n, and links to them under the names that `hostile` reacts to."""
    monkeypatch.setattr("dinoclassify.decoding.loader.decode", hostile)
    for name in ("segv", "kill", "leave", "once", "hang", "stop", "lock", "collect"):
        for number in range(40):
            (tmp_path / f"{name}-{number:03}.png").symlink_to(greys / f"{number:03}.png")
    for number in range(60):
        (tmp_path / f"{number:03}.png").symlink_to(greys / f"{number:03}.png")
    return tmp_path


@pytest.fixture(params=["plain", "torch"])
def feed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FeedName:
    """The feed of all workers: each test that uses it runs over both."""
    name: FeedName = request.param
    start = starter_of(name)
    monkeypatch.setattr("dinoclassify.decoding.loader.starter_of", lambda _: start)
    return name


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
