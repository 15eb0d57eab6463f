"""S3: pages of a listing, requests that fail and are tried again, credentials and forks."""

import gc
import itertools
import multiprocessing
import subprocess
import sys

import fsspec
import pytest
from s3fs import S3FileSystem

from dinoclassify.storage.remote import object_store, retries, s3
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source
from tests.conftest import by_fork
from tests.helpers.objects import failure, paths, read
from tests.helpers.servers import Store


def test_a_prefix_is_listed_page_by_page_on_demand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 3)
    for number in range(8):
        store.put(f"photos/{number}.jpg", b"x")
    found = object_store.objects("s3://bucket/photos/")
    assert paths(itertools.islice(found, 2)) == ["s3://bucket/photos/0.jpg", "s3://bucket/photos/1.jpg"]
    assert len(store.faults.asked) == 1
    assert paths(found) == [f"s3://bucket/photos/{number}.jpg" for number in range(2, 8)]
    assert len(store.faults.asked) == 3


def test_a_listing_that_fails_midway_raises(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 2)
    monkeypatch.setattr(s3, "TRIES", 2)
    for number in range(4):
        store.put(f"{number}.jpg", b"x")
    found = object_store.objects("s3://bucket/")
    assert next(found).path == "s3://bucket/0.jpg"
    store.faults.only, store.faults.failing, store.faults.status = "continuation", 99, "500 Internal Server Error"
    assert next(found).path == "s3://bucket/1.jpg"
    with pytest.raises(OSError, match="500 Internal Server Error"):
        next(found)
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        next(object_store.objects("s3://nowhere/photos/"))


def test_a_forbidden_object_is_requested_once(store: Store) -> None:
    store.put("a.jpg", b"x")
    store.faults.failing, store.faults.status = 99, "403 Forbidden"
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    assert len(store.faults.asked) == 1
    with pytest.raises(PermissionError):
        object_store.stat_object("s3://bucket/a.jpg")


def test_without_credentials_reading_fails_with_the_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "Unable to locate credentials")
    with pytest.raises(OSError, match="Unable to locate credentials"):
        object_store.stat_object("s3://bucket/a.jpg")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
    store.put("a.jpg", b"x")
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "Forbidden")  # so it was asked without


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error"])
def test_temporary_errors_are_retried(store: Store, status: str) -> None:
    store.put("a.jpg", b"content")
    store.faults.failing, store.faults.status = 1, status
    assert read(Source("s3://bucket/a.jpg"))[0].content == b"content"
    assert len(store.faults.asked) == 2


def test_lasting_errors_are_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "TRIES", 2)
    store.put("a.jpg", b"content")
    store.faults.failing = 99
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "503 Slow Down")
    assert len(store.faults.asked) == 2


def test_an_interrupted_download_is_retried(store: Store) -> None:
    store.put("a.jpg", bytes(100_000))
    store.faults.breaking = 2
    assert read(Source("s3://bucket/a.jpg"))[0].content == bytes(100_000)
    store.faults.breaking = 99
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    assert len(store.faults.asked) == 3 + retries.TRIES
    store.faults.breaking = 1
    assert object_store.open_file("s3://bucket/a.jpg").read() == bytes(100_000)


def test_no_object_is_lost_when_many_requests_fail(store: Store) -> None:
    for number in range(200):
        store.put(f"{number:03}.jpg", str(number).encode())
    found = list(object_store.objects("s3://bucket/"))
    for number in range(0, 200, 20):
        store.delete(f"{number:03}.jpg")
    store.faults.share = 0.05
    results = read(*found)
    assert [result.path for result in results] == [source.path for source in found]
    for number, result in enumerate(results):
        if number % 20:
            assert result.content == str(number).encode()
        else:
            assert isinstance(result.content, Failure)
            assert result.content.code == "vanished"
    assert len(store.faults.asked) > 203


def test_a_store_that_is_too_slow_is_a_timeout(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "TRIES", 1)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.2}})  # a user's own setting
    store.put("a.jpg", b"content")
    store.faults.delay = 30.0
    assert failure(Source("s3://bucket/a.jpg")).code == "timeout"


def test_an_unreachable_store_is_unreadable(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(s3, "TRIES", 1)
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    with pytest.raises(OSError, match="Could not connect"):
        object_store.stat_object("s3://bucket/a.jpg")


@by_fork
def test_a_forked_process_can_read_after_its_parent_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    monkeypatch.setattr(S3FileSystem, "close_session", lambda *_: closed.append(1))  # kept by sessions from here on
    store.put("a.jpg", b"content")
    object_store.stat_object("s3://bucket/a.jpg")
    read(Source("s3://bucket/a.jpg"))
    with object_store.open_file("s3://bucket/a.jpg") as file:
        file.read()
    answers: multiprocessing.Queue[object] = multiprocessing.get_context("fork").Queue()

    def child() -> None:
        gc.collect()
        results = read(*[Source("s3://bucket/a.jpg")] * 16)
        answers.put([result.content for result in results])
        answers.put([object_store.exists("s3://bucket/a.jpg"), object_store.open_file("s3://bucket/a.jpg").read()])
        answers.put(closed)  # which would wait for the event loop of the parent

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert answers.get(timeout=120) == [b"content"] * 16
    assert answers.get(timeout=120) == [True, b"content"]
    assert answers.get(timeout=120) == []
    process.join(120)
    assert process.exitcode == 0
    assert object_store.stat_object("s3://bucket/a.jpg") is not None


def test_a_program_ends_without_warnings(store: Store) -> None:
    store.put("a.jpg", b"x")
    program = (
        "import asyncio; from dinoclassify.storage.remote import content, object_store;"
        "from dinoclassify.types.source import Source;"
        "object_store.stat_object('s3://bucket/a.jpg');"
        "print(asyncio.run(content.read(Source('s3://bucket/a.jpg'))).content)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"b'x'\n", b"", 0)
