"""A real S3 API and a web server, on loopback, and `predict` in the process of the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.cli import run
from tests.helpers.remote_images import Predict, jpeg
from tests.helpers.servers import Page, Store, Web, store_server, web_server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, where also the state of outputs in a store is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def store(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_server(monkeypatch) as server:
        server.put("nothing", b"")
        yield server


@pytest.fixture
def predict(here: Path, tiny: str, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["predict", "-m", tiny, "-j", "1", *arguments])  # one worker: started before a server is busy
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def site() -> Iterator[Web]:
    with web_server({f"/{number}.jpg": Page(jpeg(number)) for number in range(20)}) as server:
        yield server
