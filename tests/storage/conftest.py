"""A web server."""

from collections.abc import Iterator

import pytest

from dinoclassify.storage.remote import web
from tests.helpers.servers import Web, web_server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(web, "BACKOFF", 0.01)
    with web_server() as server:
        yield server
