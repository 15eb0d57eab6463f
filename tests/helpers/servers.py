"""Servers on loopback: a real S3 API and a plain web server, both of which can be slow or fail on demand."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

from dinoclassify.discovery import existence
from dinoclassify.storage.remote import event_loop

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CODES = {"503": "SlowDown", "500": "InternalError", "403": "AccessDenied", "429": "TooManyRequests"}


@dataclass
class Faults:
    """How a server behaves from now on, and what it was asked for: lines such as ``GET /bucket/key``.

    ``delay`` comes before each answer, in seconds; ``drip`` between two of ten parts of each body. Of the requests
    whose line contains ``only``, the next ``failing`` get ``status``, so does a ``share`` of all, and the bodies of the
    next ``breaking`` break off in the middle. ``most`` requests have been under way at the same time.
    """

    delay: float = 0.0
    drip: float = 0.0
    only: str = ""
    failing: int = 0
    status: str = "503 Slow Down"
    share: float = 0.0
    breaking: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0
    most: int = 0
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)  # what those who asked have called themselves
    chance: random.Random = field(default_factory=lambda: random.Random(0))


@dataclass(frozen=True)
class Store:
    """A server of the S3 API, and its faults."""

    faults: Faults

    def put(self, key: str, content: bytes, bucket: str = "bucket") -> None:
        """Put an object into a bucket, which is made if there is none: at once, whatever the faults are."""
        backend = _backend()
        if bucket not in backend.buckets:
            backend.create_bucket(bucket, "us-east-1")
        backend.put_object(bucket, key, content)

    def delete(self, key: str, bucket: str = "bucket") -> None:
        """Delete an object."""
        _backend().delete_object(bucket, key)

    def get(self, key: str, bucket: str = "bucket") -> bytes:
        """The content of an object."""
        content: bytes = _backend().get_object(bucket, key).value
        return content

    def keys(self, bucket: str = "bucket") -> list[str]:
        """Those of all objects in a bucket."""
        return sorted(_backend().buckets[bucket].keys)


@dataclass
class Page:
    """What a web server answers; ``sized`` with its length, ``ranges`` with parts of it if it is asked for them."""

    content: bytes = b""
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    sized: bool = True
    ranges: bool = True


@dataclass(frozen=True)
class Web:
    """A web server: its URL, its faults, and its pages by path, which may be changed at any time."""

    url: str
    port: int
    faults: Faults
    pages: dict[str, Page]


@contextmanager
def store_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server of the S3 API, whose objects are in memory. The environment names it; one at a time in a process."""
    _backend().reset()
    faults = Faults()
    with _serving(DomainDispatcherApplication(create_backend_app), faults, MotoRequestHandler) as url:
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # Clients of the last server go once the environment names this one: until then another one could be opened.
        S3FileSystem.clear_instance_cache()
        event_loop._resources.clear()
        existence._has_objects.cache_clear()
        yield Store(faults)


@contextmanager
def web_server(pages: dict[str, Page] | None = None) -> Iterator[Web]:
    """A web server. What it has no page for is not found."""
    pages, faults = pages or {}, Faults()

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        page = pages.get(quote(environ["PATH_INFO"].encode("latin-1")), Page(status="404 Not Found"))
        content, status, headers = page.content, page.status, dict(page.headers)
        wanted = environ.get("HTTP_RANGE", "")
        if page.ranges and wanted and status.startswith("200"):
            start, end = wanted.removeprefix("bytes=").split("-")
            last = min(int(end or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            content, status = content[int(start) : last + 1], "206 Partial Content"
        if page.sized:
            headers["Content-Length"] = str(len(content))
        start_response(status, list(headers.items()))
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    with _serving(application, faults, WSGIRequestHandler) as url:
        yield Web(url, int(url.rpartition(":")[2]), faults, pages)


def _backend() -> Any:
    return get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]


@contextmanager
def _serving(application: "WSGIApplication", faults: Faults, kind: type[WSGIRequestHandler]) -> Iterator[str]:
    quiet = type("Handler", (kind,), {"log": lambda *_: None, "protocol_version": "HTTP/1.1"})
    server = make_server("127.0.0.1", 0, _faulty(application, faults), threaded=True, request_handler=quiet)
    server.log = lambda *_: None  # type: ignore[method-assign]  # of bodies that are meant to break off
    server.daemon_threads = True  # type: ignore[attr-defined]  # of the threaded kind
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        faults.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _faulty(application: "WSGIApplication", faults: Faults) -> "WSGIApplication":
    lock = threading.Lock()

    def is_due(name: str) -> bool:
        with lock:
            left = getattr(faults, name)
            setattr(faults, name, max(left - 1, 0))
            return bool(left > 0)

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        faults.asked.append(line)
        faults.agents.add(environ.get("HTTP_USER_AGENT", ""))
        with lock:
            faults.under_way += 1
            faults.most = max(faults.most, faults.under_way)
        is_over = faults.over.wait(faults.delay)
        with lock:
            faults.under_way -= 1
        if is_over:  # nobody waits for the answer any more
            raise ConnectionResetError
        if faults.only in line and (is_due("failing") or faults.chance.random() < faults.share):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = _CODES[faults.status.split()[0]]
            body = f"<Error><Code>{code}</Code><Message>{faults.status}</Message></Error>".encode()
            start_response(faults.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [b"" if line.startswith("HEAD") else body]
        body_parts = application(environ, start_response)
        if faults.drip:
            return _dripping(b"".join(body_parts), faults.drip)
        if faults.only in line and is_due("breaking"):
            return _breaking(b"".join(body_parts))
        return body_parts

    return answer


def _dripping(body: bytes, seconds: float) -> Iterator[bytes]:
    step = len(body) // 10 + 1
    for start in range(0, len(body), step):
        time.sleep(seconds)
        yield body[start : start + step]


def _breaking(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionResetError
