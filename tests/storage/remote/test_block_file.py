"""Remote files that are read in blocks, and streams with blocks in flight."""

import errno
import io
import random
import tarfile
import zipfile

import pytest

from dinoclassify.storage.remote import block_file, object_store
from tests.helpers.servers import Page, Store, Web


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


def test_a_server_without_range_support_is_read_as_a_stream(site: Web) -> None:
    site.pages["/a.tar"] = Page(b"content", ranges=False)
    with object_store.open_stream(f"{site.url}/a.tar", private=True) as stream:
        assert stream.read() == b"content"
    with pytest.raises(OSError, match="only as a whole") as caught:
        object_store.open_file(f"{site.url}/a.tar", private=True)
    assert caught.value.errno == errno.ESPIPE


def test_a_remote_zip_is_read_without_downloading_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_remote_tar_is_read_with_several_blocks_in_flight(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stream_fails_if_a_block_cannot_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_file, "BLOCK", 1000)
    store.put("a.tar", bytes(10_000))
    with object_store.open_stream("s3://bucket/a.tar") as stream:
        stream.read(1000)
        store.put("a.tar", bytes(5_000))
        with pytest.raises(OSError, match=r"changed|range"):
            stream.read()
