"""http and https inputs, from a web server on loopback."""

import asyncio
import email.utils
import logging
import socket
import subprocess
import sys
import threading
import time

import pytest

from dinoclassify.storage import budget
from dinoclassify.storage.remote import content, object_store, retries, web
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.helpers.servers import Page, Web
from tests.helpers.web import failure, read


def test_a_page_is_read_with_its_signature(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content", headers={"ETag": '"1"', "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"})
    result = read(f"{site.url}/a.jpg")
    assert result.content == b"content"
    assert result.signature is not None
    size, mtime_ns = result.signature
    assert (size, mtime_ns and mtime_ns // 10**9) == (7, 1700000000)
    assert object_store.signatures([Source(result.path), Source(f"{site.url}/b.jpg")], private=True) == [
        result.signature,
        (None, None),
    ]
    site.pages["/a.jpg"].headers["ETag"] = '"2"'
    assert read(f"{site.url}/a.jpg").signature != result.signature
    assert object_store.stat_object(result.path) == Source(result.path)


def test_urls_with_odd_characters_are_read(site: Web) -> None:
    site.pages["/a%20%C3%BC.jpg"] = Page(b"content")
    assert read(f"{site.url}/a ü.jpg").content == b"content"
    assert read(f"{site.url}/a%20%C3%BC.jpg#part").content == b"content"


def test_requests_name_the_program(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    read(f"{site.url}/a.jpg")
    assert site.faults.agents == {"dinoclassify/0.1.0"}


def test_a_redirect_to_a_private_address_is_not_followed(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "is_private", lambda address: address != "127.0.0.1")  # as if that were on the internet
    for path, host in (("/literal", "127.0.0.2"), ("/cloud", "169.254.169.254"), ("/again", "127.0.0.1")):
        site.pages[path] = Page(status="302 Found", headers={"Location": f"http://{host}:{site.port}/secret"})
    site.pages["/secret"] = Page(b"secret")
    assert failure(f"{site.url}/literal", private=False).message.startswith("its address is private")
    assert failure(f"{site.url}/cloud", private=False).message.startswith("its address is private")
    assert site.faults.asked == ["GET /literal", "GET /cloud"]
    assert read(f"{site.url}/again", private=False).content == b"secret"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "its server does not speak HTTP ("),
        (b"\x15\x03\x01\x00\x02\x02\x16", "its server does not speak HTTP ("),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "its server does not speak HTTP ("),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "its server answers 400 Bad Request"),
    ],
)
def test_a_server_that_does_not_speak_http_is_said_to_be_one(said: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)
                connection.recv(4096)

        answering = threading.Thread(target=answer)
        answering.start()
        refused = failure(f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg")
        assert refused.code == "unreadable"
        assert refused.message.startswith(message)
        answering.join()


def test_five_redirects_are_followed_and_no_more(site: Web) -> None:
    for number in range(6):
        site.pages[f"/{number}"] = Page(status="302 Found", headers={"Location": f"/{number + 1}"})
    site.pages["/6"] = Page(b"content")
    assert read(f"{site.url}/1").content == b"content"
    assert failure(f"{site.url}/0") == Failure("unreadable", "over 5 redirects")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://"])
def test_redirects_to_other_schemes_are_refused(site: Web, target: str) -> None:
    site.pages["/a.jpg"] = Page(status="302 Found", headers={"Location": target})
    refused = failure(f"{site.url}/a.jpg")
    assert refused.code == "unreadable"
    assert refused.message.startswith("not an http or https URL")
    assert len(site.faults.asked) == 1


@pytest.mark.parametrize("url", ["http://", "https://[::1/a", "http://a:port/"])
def test_a_malformed_url_is_a_failure(url: str) -> None:
    assert failure(url).code == "unreadable"


@pytest.mark.parametrize("sized", [True, False])
def test_a_page_that_is_too_large_is_not_downloaded(site: Web, monkeypatch: pytest.MonkeyPatch, sized: bool) -> None:
    monkeypatch.setattr(budget, "MOST_BYTES", 1_000_000)
    site.pages["/most.jpg"] = Page(bytes(1_000_000), sized=sized)
    site.pages["/more.jpg"] = Page(bytes(20_000_000), sized=sized)
    assert read(f"{site.url}/most.jpg").content == bytes(1_000_000)
    assert failure(f"{site.url}/more.jpg").code == "too_large"
    assert len(site.faults.asked) == 2


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("404 Not Found", "vanished", "its server answers 404 Not Found"),
        ("410 Gone", "vanished", "its server answers 410 Gone"),
        ("401 Unauthorized", "unreadable", "its server answers 401 Unauthorized"),
        ("403 Forbidden", "unreadable", "its server answers 403 Forbidden"),
        ("418 Teapot", "unreadable", "its server answers 418 Teapot"),
    ],
)
def test_refusals_are_not_retried(site: Web, status: str, code: str, message: str) -> None:
    site.pages["/a.jpg"] = Page(status=status)
    refused = failure(f"{site.url}/a.jpg")
    assert (refused.code, refused.message) == (code, message)
    assert len(site.faults.asked) == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests"])
def test_temporary_errors_are_retried_a_few_times(site: Web, status: str) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.status, site.faults.failing = status, retries.TRIES - 1
    assert read(f"{site.url}/a.jpg").content == b"content"
    site.faults.asked.clear()
    site.faults.failing = 99
    assert failure(f"{site.url}/a.jpg") == Failure("unreadable", f"its server answers {status}")
    assert len(site.faults.asked) == retries.TRIES


def test_retry_after_is_obeyed_within_limits(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr(retries, "TRIES", 2)
    for wish, most, least, longest in (
        (email.utils.formatdate(time.time() + 1000, usegmt=True), 2000.0, 700.0, 1000.0),
        ("1", 20.0, 1.0, 1.0),
        ("3600", 0.3, 0.3, 0.3),
        ("soon", 20.0, 0.0, retries.BACKOFF),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0.3, 0.3, 0.3),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 20.0, 0.0, retries.BACKOFF),
    ):
        monkeypatch.setattr(web, "_MOST_WAIT", most)
        site.pages["/a.jpg"] = Page(status="429 Too Many Requests", headers={"Retry-After": wish})
        pauses.clear()
        assert failure(f"{site.url}/a.jpg").code == "unreadable"
        assert least <= max(pauses) <= longest


def test_an_interrupted_download_is_retried(site: Web) -> None:
    site.pages["/a.jpg"] = Page(bytes(100_000))
    site.faults.breaking = 2
    assert read(f"{site.url}/a.jpg").content == bytes(100_000)
    site.faults.breaking = 99
    assert failure(f"{site.url}/a.jpg").code == "unreadable"


def test_a_silent_server_is_a_timeout(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_SILENCE", 0.1)
    monkeypatch.setattr(retries, "TRIES", 2)
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 0.5
    assert failure(f"{site.url}/a.jpg") == Failure("timeout", "its server does not answer")
    end = time.monotonic() + 60
    while len(site.faults.asked) < 2 and time.monotonic() < end:
        time.sleep(0.01)  # until the server has seen the second
    assert len(site.faults.asked) == 2


def test_an_unreachable_server_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF", 0.01)
    assert failure("http://127.0.0.1:1/a.jpg").code == "unreadable"
    assert failure("http://nowhere.invalid/a.jpg").code == "unreadable"


def test_a_member_of_an_archive_is_read_by_its_byte_range(site: Web) -> None:
    site.pages["/a.tar"] = Page(b"0123456789")
    url = f"{site.url}/a.tar"
    assert read(f"{url}!b.jpg", ByteRange(url, 3, 4, 4)).content == b"3456"
    assert failure(f"{url}!b.jpg", ByteRange(url, 8, 4, 4)).code == "truncated"
    site.pages["/a.tar"].ranges = False
    assert failure(f"{url}!b.jpg", ByteRange(url, 3, 4, 4)).message == "its server gives it only as a whole"


def test_many_pages_are_read_concurrently(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 1.0

    async def gather() -> list[Source]:
        return await asyncio.gather(*(content.read(Source(f"{site.url}/a.jpg"), private=True) for _ in range(32)))

    assert all(result.content == b"content" for result in asyncio.run(gather()))
    assert site.faults.most >= 8


def test_a_read_can_be_cancelled(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 0.5

    async def give_up() -> Source:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await content.read(Source(f"{site.url}/a.jpg"), private=True)
        return await content.read(Source(f"{site.url}/a.jpg"), private=True)

    assert asyncio.run(give_up()).content == b"content"


def test_a_program_ends_without_warnings(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    with caplog.at_level(logging.DEBUG, "asyncio"):
        read(f"{site.url}/a.jpg")
    assert "Unclosed" not in caplog.text
    program = (
        "import asyncio; from dinoclassify.storage.remote import content, object_store;"
        "from dinoclassify.types.source import Source;"
        f"print(object_store.open_file('{site.url}/a.jpg', private=True).read());"
        f"print(asyncio.run(content.read(Source('{site.url}/a.jpg'), private=True)).content)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"b'content'\n" * 2, b"", 0)
