"""Proxies and stores."""

from collections.abc import Iterator

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dinoclassify.storage.remote import retries
from tests.helpers.servers import Store, store_server


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all proxy variables from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_server(monkeypatch) as server:
        monkeypatch.setattr(retries, "BACKOFF", 0.01)
        yield server


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = MemoryFileSystem()
    yield fs
    fs.rm("/", recursive=True)
