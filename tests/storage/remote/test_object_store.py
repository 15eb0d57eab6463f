"""Object stores: s3fs against a real S3 API on loopback, and file systems of fsspec that need no server."""

import time
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dinoclassify.storage import budget
from dinoclassify.storage.remote import filesystem, object_store
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.helpers.objects import failure, paths, read, write
from tests.helpers.servers import Store

ODD = [
    "a b.jpg",
    "p%20q.jpg",
    "ü/é.jpg",
    "x#y.jpg",
    "q?z=1.jpg",
    "v?versionId=3.jpg",
    "d//e.jpg",
    "+&'!.jpg",
    "c*[1].jpg",
]


def test_folder_markers_are_not_listed(store: Store) -> None:
    for key in ("photos/", "photos/a.jpg", "photos/sub/", "photos/sub/b.jpg", "photos-old/c.jpg", "photos.jpg"):
        store.put(key, b"x")
    below = ["s3://bucket/photos/a.jpg", "s3://bucket/photos/sub/b.jpg"]
    assert (
        paths(object_store.objects("s3://bucket/photos")) == paths(object_store.objects("s3://bucket/photos/")) == below
    )
    assert len(paths(object_store.objects("s3://bucket"))) == 4
    assert not paths(object_store.objects("s3://bucket/nothing/"))
    for name in ("s3://bucket", "s3://bucket/photos", "s3://bucket/photos/", "s3://bucket/sub/"):
        assert object_store.stat_object(name) is None


def test_keys_with_odd_characters_are_read(store: Store) -> None:
    for key in ODD:
        store.put(key, key.encode())
    found = list(object_store.objects("s3://bucket/"))
    assert set(paths(found)) == {f"s3://bucket/{key}" for key in ODD}
    assert [object_store.stat_object(source.path) for source in found] == found
    for result in read(*found, *(Source(source.path) for source in found)):
        assert isinstance(result.content, bytes)
        assert result.content.decode() == result.path.removeprefix("s3://bucket/")


def test_the_signature_is_the_same_from_listing_and_reading(store: Store) -> None:
    before = int(time.time())
    store.put("a.jpg", b"first")
    [listed] = object_store.objects("s3://bucket/")
    assert listed.signature is not None
    size, mtime_ns = listed.signature
    assert size == 5
    assert mtime_ns is not None
    assert before <= mtime_ns // 10**9 <= time.time()
    [result] = read(Source("s3://bucket/a.jpg"))
    assert object_store.stat_object("s3://bucket/a.jpg") == listed
    assert object_store.signatures([Source("s3://bucket/a.jpg")]) == [result.signature] == [listed.signature]
    store.put("a.jpg", b"other")
    assert object_store.stat_object("s3://bucket/a.jpg") != listed


def test_an_object_is_read_with_one_request(store: Store) -> None:
    store.put("a.jpg", b"content")
    [result] = read(Source("s3://bucket/a.jpg"))
    assert result.content == b"content"
    assert store.faults.asked == ["GET /bucket/a.jpg"]


def test_a_known_signature_is_kept(store: Store) -> None:
    store.put("a.jpg", b"first")
    found = list(object_store.objects("s3://bucket/"))
    store.put("a.jpg", b"other, longer")
    [result] = read(*found)
    assert result.content == b"other, longer"
    assert result.signature == found[0].signature


def test_a_missing_object_has_vanished(store: Store) -> None:
    store.put("a.jpg", b"x")
    assert failure(Source("s3://bucket/b.jpg")).code == "vanished"
    assert failure(Source("s3://nowhere/b.jpg")) == Failure("vanished", "The specified bucket does not exist")


def test_an_object_that_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_BYTES", 10)
    store.put("a.jpg", b"12345678901")
    [found] = object_store.objects("s3://bucket/")
    store.faults.asked.clear()
    assert failure(found) == Failure("too_large", "11 bytes, over 10")
    assert not store.faults.asked
    assert failure(Source("s3://bucket/a.jpg")) == Failure("too_large", "11 bytes, over 10")


def test_a_member_of_an_archive_is_read_by_its_byte_range(store: Store) -> None:
    store.put("a.tar", b"0123456789")
    member = Source("s3://bucket/a.tar!b.jpg", ByteRange("s3://bucket/a.tar", 3, 4, 4), (4, 1))
    beyond = Source("s3://bucket/a.tar!c.jpg", ByteRange("s3://bucket/a.tar", 8, 4, 4), (4, 1))
    results = read(member, beyond)
    assert results[0] == Source(member.path, b"3456", (4, 1))
    assert results[1].content == Failure("truncated", "the archive ends before it does")


def test_signatures_are_requested_concurrently(store: Store) -> None:
    for number in range(20):
        store.put(f"{number}.jpg", b"x" * number)
    sources = [Source(f"s3://bucket/{number}.jpg") for number in range(21)]
    object_store.stat_object(sources[0].path)
    store.faults.most, store.faults.delay = 0, 0.3
    found = object_store.signatures([*sources, Source("s3://bucket/known.jpg", signature=(1, 2))])
    assert store.faults.most >= 4
    assert [size for size, _ in found] == [*range(20), None, 1]


def test_a_blocking_file_system_is_read_in_threads(memory: MemoryFileSystem, tmp_path: Path) -> None:
    for name in ("photos/b.jpg", "photos/sub/c.jpg", "photos/a.jpg", "other/d.jpg"):
        memory.pipe_file(name, name.encode())
    found = list(object_store.objects("memory://photos"))
    assert paths(found) == ["memory://photos/a.jpg", "memory://photos/b.jpg", "memory://photos/sub/c.jpg"]
    assert [object_store.stat_object(source.path) for source in found] == found
    known, new, gone = read(found[0], Source("memory://photos/sub/c.jpg"), Source("memory://photos/e.jpg"))
    assert known.content == b"photos/a.jpg"
    assert new == Source("memory://photos/sub/c.jpg", b"photos/sub/c.jpg", found[2].signature)
    assert isinstance(gone.content, Failure)
    assert gone.content.code == "vanished"
    assert object_store.stat_object("memory://photos") is None
    with pytest.raises(FileNotFoundError):
        next(object_store.objects("memory://nothing"))
    write("memory://out/a.csv", b"rows")
    assert filesystem.download("memory://out/a.csv", str(tmp_path / "a.csv"))
    assert (tmp_path / "a.csv").read_bytes() == b"rows"


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list(object_store.objects(f"file://{tmp_path}"))
    assert paths(found) == [f"file://{tmp_path}/a.jpg", f"file://{tmp_path}/loop"]
    assert [result.content for result in read(*found)] == [b"x", Failure("unreadable", "Is a directory")]
