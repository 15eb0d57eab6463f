"""The images in zips: read where they are, byte for byte, and what becomes of those that cannot be."""

import io
import os
import stat
import struct
import zipfile
import zlib
from dataclasses import replace

import pytest

from dinoclassify.discovery.containers import archive as archives
from dinoclassify.discovery.containers import base
from dinoclassify.discovery.containers import zip as zip_module
from dinoclassify.discovery.containers.archive import member, members
from dinoclassify.storage.reader import unpack
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange
from tests.helpers.archives import IMAGES, SIGNATURE, image, listed, make_zip, outcomes, read
from tests.helpers.memory import measured


def fields(archive: bytes, number: int, **values: tuple[int, str, int]) -> bytes:
    """The zip with other values in the central directory entry of this number: each offset, format, value."""
    changed = bytearray(archive)
    at = -1
    for _ in range(number + 1):
        at = archive.index(b"PK\1\2", at + 1)
    for offset, kind, value in values.values():
        struct.pack_into(kind, changed, at + offset, value)
    return bytes(changed)


@pytest.mark.parametrize("suffix", ["zip", "cbz"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_are_read_as_zipfile_reads_them(suffix: str, method: int) -> None:
    content = make_zip([*IMAGES, ("folder/", b""), ("é.png", image(3)), ("empty.png", b"")], method)
    with zipfile.ZipFile(io.BytesIO(content)) as reference:
        expected = {info.filename: reference.read(info) for info in reference.infolist() if not info.is_dir()}
    sources = listed(content, suffix)
    assert [source.path for source in sources] == [f"a.{suffix}!{name}" for name in expected]
    assert [read(source, content) for source in sources] == list(expected.values())
    assert [source.signature for source in sources] == [(len(content), 456) for content in expected.values()]
    assert {source.content.packing for source in sources if isinstance(source.content, ByteRange)} == (
        {"stored"} if method == zipfile.ZIP_STORED else {"deflated"}
    )


def test_streamed_zips_with_sizes_after_the_data_are_read() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(Unseekable(stream), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in IMAGES:
            archive.writestr(name, content)
    content = b"#!/bin/sh\n" + stream.getvalue()  # and something before it, as of those that unpack themselves
    assert [read(source, content) for source in listed(content, "zip")] == [image for _, image in IMAGES]


class Unseekable(io.RawIOBase):
    """A pipe."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # all that zipfile writes
        return self._stream.write(data)


def test_the_gap_left_by_deleted_members_is_not_read() -> None:
    stream = io.BytesIO(make_zip([("a.png", image())]))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.start_dir += 10_000_000
        archive.writestr("b.png", image(1))
    content = stream.getvalue()
    assert read(listed(content, "zip")[0], content) == image()
    assert all(
        isinstance(source.content, ByteRange) and source.content.length < 200_000 for source in listed(content, "zip")
    )


def test_odd_names_come_as_zipfile_gives_them() -> None:
    content = make_zip([("aaaa.png", b"x"), ("b\nb.png", b"y"), ("nul?x.png", b"z")])
    content = content.replace(b"aaaa.png", b"caf\x82.png").replace(b"nul?x.png", b"nul\0x.png")
    assert outcomes(content, "zip") == [("!café.png", "ok"), ("!b\nb.png", "ok"), ("!nul", "ok")]


def test_symbolic_links_are_refused() -> None:
    link = zipfile.ZipInfo("a.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert outcomes(make_zip([(link, b"/etc/passwd")]), "zip") == [("!a.png", "unreadable")]


def test_encrypted_members_are_refused() -> None:
    content = fields(make_zip([("a.png", b"x"), ("b.png", b"y")]), 0, flags=(8, "<H", 1))
    assert outcomes(content, "zip") == [("!a.png", "unreadable"), ("!b.png", "ok")]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_not_supported(method: int) -> None:
    assert outcomes(make_zip([("a.png", image())], method), "zip") == [("!a.png", "unsupported_format")]


def test_a_small_member_with_huge_packed_data_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_BYTES", 1000)
    content = fields(make_zip([("a.png", os.urandom(2000))]), 0, size=(24, "<I", 10))
    assert outcomes(content, "zip") == [("!a.png", "too_large")]


def test_a_member_is_not_unpacked_beyond_its_stated_size() -> None:
    content = fields(make_zip([("a.png", bytes(50_000_000))], zipfile.ZIP_DEFLATED), 0, size=(24, "<I", 1000))
    (source,) = listed(content, "zip")
    most, result = measured(lambda: read(source, content), below=1_000_000)
    assert most < 1_000_000
    assert result == Failure("too_large", "is larger than the 1,000 bytes that its archive says")


def test_overlapping_members_are_refused() -> None:
    kernel = make_zip([("a.png", b"x" * 1000), ("b.png", b"y" * 1000), ("c.png", b"z" * 1000)])
    inside = kernel.index(b"PK\3\4", 1) - 500
    quoted = fields(kernel, 1, offset=(42, "<I", inside))
    assert outcomes(quoted, "zip") == [("!a.png", "decode_error"), ("!b.png", "decode_error"), ("!c.png", "ok")]
    same = fields(kernel, 1, offset=(42, "<I", 0))
    assert outcomes(same, "zip") == [("!a.png", "decode_error"), ("!b.png", "decode_error"), ("!c.png", "ok")]
    behind = fields(kernel, 2, offset=(42, "<I", len(kernel) - 10))
    assert outcomes(behind, "zip")[2] == ("!c.png", "decode_error")


def test_a_truncated_zip_gives_one_failed_row() -> None:
    content = make_zip(IMAGES)
    assert outcomes(content[: len(content) // 2], "zip") == [("", "truncated")]
    assert outcomes(content[:-10], "zip") == [("", "truncated")]


def test_a_damaged_directory_gives_one_failed_row() -> None:
    content = make_zip(IMAGES)
    assert outcomes(content.replace(b"PK\1\2", b"PK\1\1", 1), "zip") == [("", "decode_error")]
    assert outcomes(fields(content, 3, version=(6, "<H", 99)), "zip") == [("", "decode_error")]
    size = len(content) - 22 + 12
    assert outcomes(content[:size] + bytes(4) + content[size + 4 :], "zip") == [("", "decode_error")]
    assert outcomes(make_zip([]), "zip") == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_each_damaged_member_gets_a_failed_row(method: int) -> None:
    files = [("a.png", image(1)), ("b.png", image(2)), ("c.png", image(3))]
    content = bytearray(make_zip(files, method))
    header_of_b, data_of_c = content.index(b"b.png") - 30, content.index(b"c.png") + 40
    content[header_of_b] ^= 1
    content[data_of_c] ^= 0x55
    assert outcomes(bytes(content), "zip") == [("!a.png", "ok"), ("!b.png", "decode_error"), ("!c.png", "decode_error")]


def test_a_member_smaller_than_its_stated_size_is_damaged() -> None:
    packed = make_zip([("a.png", b"x" * 1000)], zipfile.ZIP_DEFLATED)
    span = listed(packed, "zip")[0].content
    assert isinstance(span, ByteRange)
    result = unpack(replace(span, size=1001), packed[: span.length])
    assert isinstance(result, Failure)
    assert result.code == "decode_error"
    assert unpack(replace(span, crc=zlib.crc32(b"other")), packed[: span.length]) == Failure(
        "decode_error", "its data in the archive are damaged: wrong size or checksum"
    )


def directory(entries: int, *, size: int | None = None, spread: int = 0) -> bytes:
    """A zip64 of so many empty members; `size` is the length that its directory claims."""
    members, records = io.BytesIO(), io.BytesIO()
    for number in range(entries):
        name = b"%07d.png" % number
        at = members.tell()
        members.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name)
        extra = struct.pack("<HHQ", 1, 8, at)
        sizes = (0, 0, 0, len(name), len(extra), spread)
        records.write(struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, 45, 0, 0, 0, 33, *sizes, 0, 0, 0, 0xFFFFFFFF))
        records.write(name + extra + bytes(spread))
    content, length = members.getvalue() + records.getvalue(), records.tell()
    said = length if size is None else size
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, said, members.tell())
    end += struct.pack("<4sIQI", b"PK\6\7", 0, len(content), 1)
    return content + end + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def test_the_directory_is_read_as_a_stream() -> None:
    content = directory(16_000)
    with zipfile.ZipFile(io.BytesIO(content)) as reference:
        expected = [(f"a.zip!{info.filename}", info.header_offset) for info in reference.infolist()]
    found = members("a.zip", lambda _: True, lambda _: io.BytesIO(content), SIGNATURE, streamed=False)
    assert [
        (source.path, source.content.offset) for source in found if isinstance(source.content, ByteRange)
    ] == expected

    def count() -> int:
        found = members("a.zip", lambda _: True, lambda _: io.BytesIO(content), SIGNATURE, streamed=False)
        return sum(1 for _ in found)

    most, counted = measured(count, below=5_000_000)
    assert counted == 16_000
    assert most < 5_000_000, "three pieces of 1 MiB and 30 bytes a member"


def test_long_member_comments_are_skipped() -> None:
    content = directory(40, spread=0xFFFF)
    assert outcomes(content, "zip") == [(f"!{number:07}.png", "ok") for number in range(40)]


def test_a_directory_that_is_too_large_gives_one_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_module, "_MOST_DIRECTORY", 6_000)
    assert {code for _, code in outcomes(directory(80), "zip")} == {"ok"}
    (source,) = listed(directory(90), "zip")
    message = "the archive's directory has 6,210 bytes, over 6,000"
    assert (source.path, source.content) == ("a.zip", Failure("too_large", message))


@pytest.mark.parametrize("size", [0, 1, 46 * 5, 69 * 10 - 1, 69 * 10 + 1, 1 << 40, (1 << 64) - 1])
def test_a_directory_with_a_wrong_size_gives_one_failed_row(size: int) -> None:
    assert outcomes(directory(10, size=size), "zip") == [("", "decode_error")]


def test_a_member_of_a_huge_zip_is_found_without_indexing_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_INDEXED", 5)
    content = make_zip(IMAGES)
    archives._index.cache_clear()
    for name, data in (IMAGES[2], IMAGES[9]):
        found = member("many.zip", name, lambda _: io.BytesIO(content), (9, 9))
        assert read(found, content) == data
    missing = member("many.zip", "x.png", lambda _: io.BytesIO(content), (9, 9))
    assert missing.content == Failure("vanished", "no such image in the archive")
