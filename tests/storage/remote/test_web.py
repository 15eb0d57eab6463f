"""http and https inputs, from a web server on loopback."""

import asyncio
import email.utils
import errno
import ipaddress
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.errors import UsageError
from dinoclassify.storage.remote import block_file, object_store, web
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.helpers.servers import Page, Web, web_server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(web, "BACKOFF", 0.01)
    with web_server() as server:
        yield server


def read(url: str, content: ByteRange | None = None, *, private: bool = True) -> Source:
    return asyncio.run(object_store.read(Source(url, content), private=private))


def failure(url: str, content: ByteRange | None = None, *, private: bool = True) -> Failure:
    result = read(url, content, private=private)
    assert isinstance(result.content, Failure)
    return result.content


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


def test_odd_names_are_found(site: Web) -> None:
    site.pages["/a%20%C3%BC.jpg"] = Page(b"content")
    assert read(f"{site.url}/a ü.jpg").content == b"content"
    assert read(f"{site.url}/a%20%C3%BC.jpg#part").content == b"content"


def test_a_server_is_told_who_asks(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    read(f"{site.url}/a.jpg")
    assert site.faults.agents == {"dinoclassify/0.1.0"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2"])
def test_this_machine_is_not_asked(site: Web, host: str) -> None:
    site.pages["/a.jpg"] = Page(b"secret")
    refused = failure(f"http://{host}:{site.port}/a.jpg", private=False)
    assert refused == Failure("unreadable", "its address is private: --allow-private-urls allows it")
    assert not site.faults.asked


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0", "0177.0.0.1"])
def test_nor_is_it_by_another_name(site: Web, host: str) -> None:
    site.pages["/a.jpg"] = Page(b"secret")
    assert failure(f"http://{host}:{site.port}/a.jpg", private=False).code == "unreadable"
    assert not site.faults.asked


def test_a_redirect_to_a_private_address_is_not_followed(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "is_private", lambda address: address != "127.0.0.1")  # as if that were on the internet
    for path, host in (("/literal", "127.0.0.2"), ("/cloud", "169.254.169.254"), ("/again", "127.0.0.1")):
        site.pages[path] = Page(status="302 Found", headers={"Location": f"http://{host}:{site.port}/secret"})
    site.pages["/secret"] = Page(b"secret")
    assert failure(f"{site.url}/literal", private=False).message.startswith("its address is private")
    assert failure(f"{site.url}/cloud", private=False).message.startswith("its address is private")
    assert site.faults.asked == ["GET /literal", "GET /cloud"]
    assert read(f"{site.url}/again", private=False).content == b"secret"


def test_a_proxy_does_not_lead_around_that(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("no_proxy", "")
    assert failure("http://127.0.0.2:1/a.jpg", private=False).message.startswith("its address is private")
    assert not site.faults.asked


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is named, and none is passed by."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", "HTTP://", ""])
def test_a_proxy_may_be_named_without_its_scheme(
    site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None, name: str, scheme: str
) -> None:
    site.pages["/a.jpg"] = Page(b"by the proxy")
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{site.port}")
    assert read("http://far.invalid/a.jpg").content == b"by the proxy"
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert failure("http://far.invalid/a.jpg").message.startswith("Cannot connect to host far.invalid")


def test_a_redirect_has_a_proxy_of_its_own(site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None) -> None:
    site.pages["/a.jpg"] = Page(status="302 Found", headers={"Location": "http://far.invalid/b.jpg"})
    site.pages["/b.jpg"] = Page(b"by the proxy")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{site.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(f"{site.url}/a.jpg").content == b"by the proxy"


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "https://proxy:1", "http://", ":80", "proxy:port", "[::1"])
def test_what_names_no_proxy_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, no_proxy: None, value: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(UsageError) as caught:
        list(discover(["https://example.org/a.jpg"], private=True))
    cure = "write it as http://HOST:PORT, or unset it"
    assert str(caught.value) == f"ALL_PROXY names no proxy that can be used: {cure}"
    assert list(discover(["https://example.org/a.jpg"])) == [Source("https://example.org/a.jpg")]
    monkeypatch.setenv("no_proxy", "example.org")
    assert len(list(discover(["https://example.org/a.jpg", "https://[::1/a"], private=True))) == 2


def test_a_proxy_that_is_not_used_is_named_where_it_may_be_missed(
    site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", site.url)
    hint = "; proxies, as HTTP_PROXY names one, are used only with --allow-private-urls"
    assert failure("http://far.invalid/a.jpg", private=False).message.endswith(hint)
    assert "HTTP_PROXY" not in failure(f"{site.url}/a.jpg", private=False).message  # that is not what is missing
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert not failure("http://far.invalid/a.jpg", private=False).message.endswith(hint)
    assert not site.faults.asked


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "its server does not speak HTTP ("),
        (b"\x15\x03\x01\x00\x02\x02\x16", "its server does not speak HTTP ("),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "its server does not speak HTTP ("),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "its server answers 400 Bad Request"),
    ],
)
def test_what_does_not_speak_http_is_not_taken_for_a_refusal(said: bytes, message: str) -> None:
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


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%1", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:c0a8:1::1",
        "192.0.0.192", "192.0.0.9", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1",
        "100.100.100.200", "0.1.2.3", "198.18.0.1", "198.19.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1",
        "192.88.99.1", "239.255.255.255", "250.0.0.1", "::ffff:100.64.0.1", "::ffff:169.254.169.254", "fec0::1",
        "feff::1", "fd00:ec2::254", "2001::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1", "::8.8.8.8",
        "64:ff9b:1::808:808",
    ],
)  # fmt: skip
def test_addresses_that_are_private(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.is_private(address)
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):  # as if this version of Python knew nothing
        monkeypatch.setattr(kind, "is_global", True)
    assert web.is_private(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
        "192.0.1.1",
        "168.63.129.17",
        "100.128.0.1",
    ],
)
def test_addresses_that_are_public(address: str) -> None:
    assert not web.is_private(address)


def test_five_redirects_are_followed_and_no_more(site: Web) -> None:
    for number in range(6):
        site.pages[f"/{number}"] = Page(status="302 Found", headers={"Location": f"/{number + 1}"})
    site.pages["/6"] = Page(b"content")
    assert read(f"{site.url}/1").content == b"content"
    assert failure(f"{site.url}/0") == Failure("unreadable", "over 5 redirects")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://"])
def test_a_redirect_leads_to_the_web_only(site: Web, target: str) -> None:
    site.pages["/a.jpg"] = Page(status="302 Found", headers={"Location": target})
    refused = failure(f"{site.url}/a.jpg")
    assert refused.code == "unreadable"
    assert refused.message.startswith("not an http or https URL")
    assert len(site.faults.asked) == 1


@pytest.mark.parametrize("url", ["http://", "https://[::1/a", "http://a:port/"])
def test_what_is_no_url_is_a_failure(url: str) -> None:
    assert failure(url).code == "unreadable"


@pytest.mark.parametrize("sized", [True, False])
def test_what_is_too_large_is_refused_before_it_is_here(
    site: Web, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    monkeypatch.setattr(web, "MOST_BYTES", 1_000_000)
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
def test_what_is_refused_is_asked_for_once(site: Web, status: str, code: str, message: str) -> None:
    site.pages["/a.jpg"] = Page(status=status)
    refused = failure(f"{site.url}/a.jpg")
    assert (refused.code, refused.message) == (code, message)
    assert len(site.faults.asked) == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests"])
def test_what_may_do_better_is_tried_again_some_times(site: Web, status: str) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.status, site.faults.failing = status, web.TRIES - 1
    assert read(f"{site.url}/a.jpg").content == b"content"
    site.faults.asked.clear()
    site.faults.failing = 99
    assert failure(f"{site.url}/a.jpg") == Failure("unreadable", f"its server answers {status}")
    assert len(site.faults.asked) == web.TRIES


def test_a_server_that_asks_for_time_gets_some(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr(web, "TRIES", 2)
    for wish, most, least, longest in (
        (email.utils.formatdate(time.time() + 1000, usegmt=True), 2000.0, 700.0, 1000.0),
        ("1", 20.0, 1.0, 1.0),
        ("3600", 0.3, 0.3, 0.3),
        ("soon", 20.0, 0.0, web.BACKOFF),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0.3, 0.3, 0.3),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 20.0, 0.0, web.BACKOFF),
    ):
        monkeypatch.setattr(web, "_MOST_WAIT", most)
        site.pages["/a.jpg"] = Page(status="429 Too Many Requests", headers={"Retry-After": wish})
        pauses.clear()
        assert failure(f"{site.url}/a.jpg").code == "unreadable"
        assert least <= max(pauses) <= longest


def test_a_body_that_breaks_off_is_asked_for_again(site: Web) -> None:
    site.pages["/a.jpg"] = Page(bytes(100_000))
    site.faults.breaking = 2
    assert read(f"{site.url}/a.jpg").content == bytes(100_000)
    site.faults.breaking = 99
    assert failure(f"{site.url}/a.jpg").code == "unreadable"


def test_a_server_that_is_silent_is_given_up(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_SILENCE", 0.1)
    monkeypatch.setattr(web, "TRIES", 2)
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 0.5
    assert failure(f"{site.url}/a.jpg") == Failure("timeout", "its server does not answer")
    end = time.monotonic() + 60
    while len(site.faults.asked) < 2 and time.monotonic() < end:
        time.sleep(0.01)  # until the server has seen the second
    assert len(site.faults.asked) == 2


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BACKOFF", 0.01)
    assert failure("http://127.0.0.1:1/a.jpg").code == "unreadable"
    assert failure("http://nowhere.invalid/a.jpg").code == "unreadable"


def test_a_member_of_an_archive_is_a_part_of_it(site: Web) -> None:
    site.pages["/a.tar"] = Page(b"0123456789")
    url = f"{site.url}/a.tar"
    assert read(f"{url}!b.jpg", ByteRange(url, 3, 4, 4)).content == b"3456"
    assert failure(f"{url}!b.jpg", ByteRange(url, 8, 4, 4)).code == "truncated"
    site.pages["/a.tar"].ranges = False
    assert failure(f"{url}!b.jpg", ByteRange(url, 3, 4, 4)).message == "its server gives it only as a whole"


def test_a_file_is_read_in_blocks(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_file, "BLOCK", 1000)
    content = bytes(range(256)) * 40
    site.pages["/a.tar"] = Page(content)
    with object_store.open_file(f"{site.url}/a.tar", private=True) as file:
        file.seek(-10, 2)
        assert file.read() == content[-10:]
        file.seek(5)
        assert file.read(3) == content[5:8]
        assert len(site.faults.asked) == 3
        assert file.read() == content[8:]
    with object_store.open_stream(f"{site.url}/a.tar", private=True) as stream:
        assert stream.read() == content
    with pytest.raises(FileNotFoundError):
        object_store.open_stream(f"{site.url}/b.tar", private=True)
    with pytest.raises(PermissionError):
        object_store.open_file(f"{site.url}/a.tar")


def test_a_server_that_gives_no_parts_gives_a_stream_all_the_same(site: Web) -> None:
    site.pages["/a.tar"] = Page(b"content", ranges=False)
    with object_store.open_stream(f"{site.url}/a.tar", private=True) as stream:
        assert stream.read() == b"content"
    with pytest.raises(OSError, match="only as a whole") as caught:
        object_store.open_file(f"{site.url}/a.tar", private=True)
    assert caught.value.errno == errno.ESPIPE


def test_many_are_read_side_by_side(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 1.0

    async def gather() -> list[Source]:
        return await asyncio.gather(*(object_store.read(Source(f"{site.url}/a.jpg"), private=True) for _ in range(32)))

    assert all(result.content == b"content" for result in asyncio.run(gather()))
    assert site.faults.most >= 8


def test_a_caller_who_gives_up_is_obeyed(site: Web) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    site.faults.delay = 0.5

    async def give_up() -> Source:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await object_store.read(Source(f"{site.url}/a.jpg"), private=True)
        return await object_store.read(Source(f"{site.url}/a.jpg"), private=True)

    assert asyncio.run(give_up()).content == b"content"


def test_a_run_ends_without_a_word(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    site.pages["/a.jpg"] = Page(b"content")
    with caplog.at_level(logging.DEBUG, "asyncio"):
        read(f"{site.url}/a.jpg")
    assert "Unclosed" not in caplog.text
    program = (
        "import asyncio; from dinoclassify.storage.remote import object_store;"
        "from dinoclassify.types.source import Source;"
        f"print(object_store.open_file('{site.url}/a.jpg', private=True).read());"
        f"print(asyncio.run(object_store.read(Source('{site.url}/a.jpg'), private=True)).content)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"b'content'\n" * 2, b"", 0)
