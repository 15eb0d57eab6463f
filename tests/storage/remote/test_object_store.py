"""Object stores: s3fs against a real S3 API on loopback, and file systems of fsspec that need no server."""

import asyncio
import gc
import importlib
import io
import itertools
import multiprocessing
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.existence import _has_objects, is_gone
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.remote import block_file, filesystem, object_store, s3, web
from dinoclassify.storage.remote.url import is_url, is_web
from dinoclassify.storage.signature import entry_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.conftest import by_fork
from tests.helpers.servers import Store, store_server

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


def write(url: str, content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        filesystem.upload(file.name, url)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_server(monkeypatch) as server:
        monkeypatch.setattr(web, "BACKOFF", 0.01)
        yield server


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = MemoryFileSystem()
    yield fs
    fs.rm("/", recursive=True)


def read(*sources: Source) -> list[Source]:
    async def gather() -> list[Source]:
        return await asyncio.gather(*map(object_store.read, sources))

    return asyncio.run(gather())


def failure(source: Source) -> Failure:
    [result] = read(source)
    assert isinstance(result.content, Failure)
    return result.content


def paths(found: Iterable[Source]) -> list[str]:
    return [source.path for source in found]


def test_a_prefix_is_listed_page_by_page_as_far_as_it_is_wanted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 3)
    for number in range(8):
        store.put(f"photos/{number}.jpg", b"x")
    found = object_store.objects("s3://bucket/photos/")
    assert paths(itertools.islice(found, 2)) == ["s3://bucket/photos/0.jpg", "s3://bucket/photos/1.jpg"]
    assert len(store.faults.asked) == 1
    assert paths(found) == [f"s3://bucket/photos/{number}.jpg" for number in range(2, 8)]
    assert len(store.faults.asked) == 3


def test_a_prefix_is_a_folder_without_its_markers(store: Store) -> None:
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


def test_a_listing_that_breaks_off_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_every_key_is_a_name_as_it_is(store: Store) -> None:
    for key in ODD:
        store.put(key, key.encode())
    found = list(object_store.objects("s3://bucket/"))
    assert set(paths(found)) == {f"s3://bucket/{key}" for key in ODD}
    assert [object_store.stat_object(source.path) for source in found] == found
    for result in read(*found, *(Source(source.path) for source in found)):
        assert isinstance(result.content, bytes)
        assert result.content.decode() == result.path.removeprefix("s3://bucket/")


def test_a_signature_is_a_true_time_and_the_same_whoever_is_asked(store: Store) -> None:
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


NO_TAG = 258269876  # a digest of nothing: the fraction of a time that goes without an ETag


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"size": 3, "mtime": 1700000000.5, "created": 1.0}, (3, 1700000000_000000000)),  # a local file
        ({"size": 3, "updated": "2023-11-14T22:13:20.5Z"}, (3, 1700000000_000000000)),  # Google's
        ({"Content-Length": "3", "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"}, (3, 1700000000_000000000)),
        ({"size": 3, "last_modified": None}, (3, None)),
        ({"size": 3, "mtime": "yesterday", "ETag": ""}, (3, None)),
        ({"size": 3, "Last-Modified": "Fri, 31 Dec 9999 23:59:59 GMT"}, (3, 9223372035_000000000)),  # fits 64 bits
        ({"size": 3, "Last-Modified": "Mon, 01 Jan 1900 00:00:00 GMT"}, (3, 0)),
        ({"type": "file"}, (None, None)),
    ],
)
def test_stores_say_it_in_many_words(entry: dict[str, object], expected: object) -> None:
    found = entry_signature(entry)
    assert found[1] is None or found[1] % 10**9 == NO_TAG
    assert (found[0], found[1] and found[1] // 10**9 * 10**9) == expected


def test_what_tells_the_content_stands_for_a_time() -> None:
    tagged = [
        entry_signature({"size": 3, name: "1"}) for name in ("ETag", "sha", "blob_id")
    ]  # of the web, GitHub, a hub
    assert tagged[0] == tagged[1] == tagged[2] != entry_signature({"size": 3, "ETag": "2"})
    assert tagged[0][1] is not None
    assert tagged[0][1] // 10**9 == 0


def test_an_object_is_read_with_one_request(store: Store) -> None:
    store.put("a.jpg", b"content")
    [result] = read(Source("s3://bucket/a.jpg"))
    assert result.content == b"content"
    assert store.faults.asked == ["GET /bucket/a.jpg"]


def test_a_signature_that_is_known_stays(store: Store) -> None:
    store.put("a.jpg", b"first")
    found = list(object_store.objects("s3://bucket/"))
    store.put("a.jpg", b"other, longer")
    [result] = read(*found)
    assert result.content == b"other, longer"
    assert result.signature == found[0].signature


def test_what_is_not_there_has_vanished(store: Store) -> None:
    store.put("a.jpg", b"x")
    assert failure(Source("s3://bucket/b.jpg")).code == "vanished"
    assert failure(Source("s3://nowhere/b.jpg")) == Failure("vanished", "The specified bucket does not exist")


def test_what_is_forbidden_is_asked_for_once(store: Store) -> None:
    store.put("a.jpg", b"x")
    store.faults.failing, store.faults.status = 99, "403 Forbidden"
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    assert len(store.faults.asked) == 1
    with pytest.raises(PermissionError):
        object_store.stat_object("s3://bucket/a.jpg")


def test_without_credentials_nothing_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "Unable to locate credentials")
    with pytest.raises(OSError, match="Unable to locate credentials"):
        object_store.stat_object("s3://bucket/a.jpg")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
    store.put("a.jpg", b"x")
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "Forbidden")  # so it was asked without


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error"])
def test_what_may_do_better_is_tried_again(store: Store, status: str) -> None:
    store.put("a.jpg", b"content")
    store.faults.failing, store.faults.status = 1, status
    assert read(Source("s3://bucket/a.jpg"))[0].content == b"content"
    assert len(store.faults.asked) == 2


def test_what_never_does_better_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "TRIES", 2)
    store.put("a.jpg", b"content")
    store.faults.failing = 99
    assert failure(Source("s3://bucket/a.jpg")) == Failure("unreadable", "503 Slow Down")
    assert len(store.faults.asked) == 2


def test_a_body_that_breaks_off_is_asked_for_again(store: Store) -> None:
    store.put("a.jpg", bytes(100_000))
    store.faults.breaking = 2
    assert read(Source("s3://bucket/a.jpg"))[0].content == bytes(100_000)
    store.faults.breaking = 99
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    assert len(store.faults.asked) == 3 + web.TRIES
    store.faults.breaking = 1
    assert object_store.open_file("s3://bucket/a.jpg").read() == bytes(100_000)


def test_no_object_is_lost_where_many_requests_fail(store: Store) -> None:
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


def test_what_is_too_slow_is_said_to_be(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "TRIES", 1)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.2}})  # a user's own setting
    store.put("a.jpg", b"content")
    store.faults.delay = 30.0
    assert failure(Source("s3://bucket/a.jpg")).code == "timeout"


def test_nothing_listens_there(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(s3, "TRIES", 1)
    assert failure(Source("s3://bucket/a.jpg")).code == "unreadable"
    with pytest.raises(OSError, match="Could not connect"):
        object_store.stat_object("s3://bucket/a.jpg")


def test_what_is_too_large_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_BYTES", 10)
    store.put("a.jpg", b"12345678901")
    [found] = object_store.objects("s3://bucket/")
    store.faults.asked.clear()
    assert failure(found) == Failure("too_large", "11 bytes, over 10")
    assert not store.faults.asked
    assert failure(Source("s3://bucket/a.jpg")) == Failure("too_large", "11 bytes, over 10")


def test_a_member_of_an_archive_is_a_part_of_it(store: Store) -> None:
    store.put("a.tar", b"0123456789")
    member = Source("s3://bucket/a.tar!b.jpg", ByteRange("s3://bucket/a.tar", 3, 4, 4), (4, 1))
    beyond = Source("s3://bucket/a.tar!c.jpg", ByteRange("s3://bucket/a.tar", 8, 4, 4), (4, 1))
    results = read(member, beyond)
    assert results[0] == Source(member.path, b"3456", (4, 1))
    assert results[1].content == Failure("truncated", "the archive ends before it does")


def test_a_zip_is_opened_where_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_file, "BLOCK", 1000)
    content = random.Random(0).randbytes(50_000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("large.bin", content)
        archive.writestr("small.txt", b"small")
    store.put("a.zip", packed.getvalue())
    with object_store.open_file("s3://bucket/a.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["large.bin", "small.txt"]
        assert archive.read("small.txt") == b"small"
        assert len(store.faults.asked) < 10  # not the whole of it
        assert archive.read("large.bin") == content
    with pytest.raises(FileNotFoundError):
        object_store.open_file("s3://bucket/b.zip")


def test_a_tar_is_read_with_blocks_in_flight(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_file, "BLOCK", 10_000)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(8):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 9_000
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
    store.put("a.tar", packed.getvalue())
    with object_store.open_stream("s3://bucket/a.tar") as stream:
        assert stream.read() == packed.getvalue()
    blocks_read = len(store.faults.asked) - 1
    assert blocks_read == 9
    store.faults.most, store.faults.delay = 0, 0.5
    with object_store.open_stream("s3://bucket/a.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        assert [member.name for member in archive] == [f"{number}.bin" for number in range(8)]
    assert store.faults.most > 1
    with object_store.open_stream("s3://bucket/a.tar") as stream:
        assert stream.read(10) == packed.getvalue()[:10]  # and no more: the rest is given up
    with pytest.raises(FileNotFoundError):
        object_store.open_stream("s3://bucket/b.tar")


def test_a_block_that_cannot_be_read_fails_the_stream(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_file, "BLOCK", 1000)
    store.put("a.tar", bytes(10_000))
    with object_store.open_stream("s3://bucket/a.tar") as stream:
        stream.read(1000)
        store.put("a.tar", bytes(5_000))
        with pytest.raises(OSError, match=r"changed|range"):
            stream.read()


def test_what_is_written_is_there(store: Store, tmp_path: Path) -> None:
    store.put("other", b"")
    local, url = tmp_path / "rows.csv", "s3://bucket/out/rows of today.csv"
    local.write_bytes(b"path,status\n")
    assert not object_store.exists(url)
    filesystem.upload(str(local), url)
    assert store.get("out/rows of today.csv") == b"path,status\n"
    assert object_store.exists(url)
    assert filesystem.download(url, str(tmp_path / "back.csv"))
    assert (tmp_path / "back.csv").read_bytes() == b"path,status\n"
    write(url, b"")
    assert filesystem.download(url, str(tmp_path / "back.csv"))
    assert (tmp_path / "back.csv").read_bytes() == b""
    fs, path = object_store.filesystem(url)
    fs.rm_file(path)
    assert store.keys() == ["other"]
    assert not filesystem.download(url, str(tmp_path / "none.csv"))
    assert not (tmp_path / "none.csv").exists()


def test_what_cannot_be_written_is_one_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot write s3://nowhere/a.csv: The specified bucket does not exist$"):
        write("s3://nowhere/a.csv", b"")
    with pytest.raises(OutputError, match=r"^cannot write s3://bucket/a.csv: No such file or directory$"):
        filesystem.upload(str(tmp_path / "none"), "s3://bucket/a.csv")
    store.faults.failing, store.faults.status = 99, "403 Forbidden"
    with pytest.raises(OutputError, match=r"^cannot read s3://bucket/a.csv: "):
        filesystem.download("s3://bucket/a.csv", str(tmp_path / "a.csv"))
    with pytest.raises(UsageError, match="can only be read"):
        write("https://example.org/a.csv", b"")


def test_a_write_is_tried_again(store: Store) -> None:
    store.put("other", b"")
    store.faults.failing = 1
    write("s3://bucket/a.csv", b"rows")
    assert store.get("a.csv") == b"rows"


def test_signatures_are_asked_for_side_by_side(store: Store) -> None:
    for number in range(20):
        store.put(f"{number}.jpg", b"x" * number)
    sources = [Source(f"s3://bucket/{number}.jpg") for number in range(21)]
    object_store.stat_object(sources[0].path)
    store.faults.most, store.faults.delay = 0, 0.3
    found = object_store.signatures([*sources, Source("s3://bucket/known.jpg", signature=(1, 2))])
    assert store.faults.most >= 4
    assert [size for size, _ in found] == [*range(20), None, 1]


@by_fork
def test_a_forked_process_reads_what_its_parent_has_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_store_that_waits_is_read_by_threads(memory: MemoryFileSystem, tmp_path: Path) -> None:
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


def test_a_local_path_has_a_file_system_too(tmp_path: Path) -> None:
    fs, path = object_store.filesystem(str(tmp_path))
    assert fs.isdir(path)
    assert path == str(tmp_path)


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("fsspec.registry")  # of which fsspec itself has another
    for package, scheme in (("s3fs", "s3"), ("gcsfs", "gs")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(registry._registry, scheme, raising=False)
    with pytest.raises(UsageError, match=r"^s3://b/: s3:// needs: pip install 'dinoclassify\[cloud\]'$"):
        object_store.filesystem("s3://b/")
    with pytest.raises(UsageError, match=r"^gs://b/: gs:// needs an fsspec plug-in: .*gcsfs"):
        object_store.objects("gs://b/")
    with pytest.raises(UsageError, match=r"^nfs4://b/: nfs4:// is not known"):
        object_store.stat_object("nfs4://b/")


@pytest.mark.parametrize("path", ["photos/a.jpg", "c:/a.jpg", "c://a.jpg", "a b://c", "://a", "/s3://a", "s3:/a"])
def test_paths_are_no_urls(path: str) -> None:
    assert not is_url(path)


def test_urls_are() -> None:
    assert all(map(is_url, ["s3://b/k", "HTTPS://a.org/b", "abfs://c@a/b", "file:///a"]))
    assert is_web("HTTPS://a.org/b")
    assert not is_web("s3://https://b")


def test_a_run_ends_without_a_word(store: Store) -> None:
    store.put("a.jpg", b"x")
    program = (
        "import asyncio; from dinoclassify.storage.remote import object_store;"
        "from dinoclassify.types.source import Source;"
        "object_store.stat_object('s3://bucket/a.jpg');"
        "print(asyncio.run(object_store.read(Source('s3://bucket/a.jpg'))).content)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"b'x'\n", b"", 0)


def test_a_prefix_may_have_the_characters_of_a_glob(store: Store) -> None:
    for key in ("album [2024]/a.jpg", "album [2024]/b/c.jpg", "album 2/d.jpg", "what?/e.jpg", "what!/f.jpg"):
        store.put(key, b"x")

    def found(url: str) -> list[str]:
        return [source.path.removeprefix("s3://bucket/") for source in discover([url])]

    assert found("s3://bucket/album [2024]/") == ["album [2024]/a.jpg", "album [2024]/b/c.jpg"]
    assert found("s3://bucket/album [2024]") == ["album [2024]/a.jpg", "album [2024]/b/c.jpg"]
    assert found("s3://bucket/what?/") == ["what?/e.jpg"]
    assert found("s3://bucket/album [2024]/*.jpg") == ["album 2/d.jpg"]
    assert sorted(found("s3://bucket/what*/*.jpg")) == ["what!/f.jpg", "what?/e.jpg"]


def test_an_object_is_gone_where_the_store_says_so_and_lists_others(store: Store) -> None:
    _has_objects.cache_clear()
    store.put("photos/a.jpg", b"x")
    assert is_gone("s3://bucket/photos/b.jpg")
    assert is_gone("s3://bucket/photos/old/c.jpg")
    assert is_gone("s3://bucket/d.tar!c.jpg")
    assert not is_gone("s3://bucket/photos/a.jpg")
    assert not is_gone("s3://nowhere/photos/b.jpg")
    assert not is_gone("s3://nowhere/a.zip!b.jpg")
    store.faults.asked.clear()
    assert is_gone("s3://bucket/photos/c.jpg")
    assert len(store.faults.asked) == 1, "that the prefix has objects is known"
    _has_objects.cache_clear()
    store.delete("photos/a.jpg")
    assert not is_gone("s3://bucket/photos/b.jpg"), "an empty bucket may be another"


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Slow Down", "500 Internal Server Error"])
def test_no_object_is_gone_where_the_store_is_in_doubt(
    store: Store, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"total_max_attempts": 1}}})
    _has_objects.cache_clear()
    store.put("photos/a.jpg", b"x")
    store.faults.status, store.faults.share = status, 1.0
    for only in ("", "GET"):  # all requests, and the listing alone
        store.faults.only = only
        assert not is_gone("s3://bucket/photos/b.jpg")
        assert not is_gone("s3://bucket/photos/b.zip!c.jpg")
