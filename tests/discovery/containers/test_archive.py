"""The images in tars and zips: read where they are, byte for byte, and what becomes of those that cannot be."""

import bz2
import gzip
import io
import os
import random
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dinoclassify.discovery.containers import archive as archives
from dinoclassify.discovery.containers import base
from dinoclassify.discovery.containers import tar as tar_module
from dinoclassify.discovery.containers import zip as zip_module
from dinoclassify.discovery.containers.archive import is_archive, is_streamed, member, members
from dinoclassify.discovery.location import Location
from dinoclassify.storage.reader import unpack
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.helpers.memory import measured

SIGNATURE = (123, 456)
STREAMED = {"tar.gz": True, "tgz": True, "tar.bz2": True, "tbz2": True, "tar.zst": True, "tzst": True, "tar": False}


def image(number: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, 50, 100)).save(stream, "PNG")
    return stream.getvalue() + random.Random(number).randbytes(700 * (number % 5))


IMAGES = [(f"dir/{number}.png", image(number)) for number in range(12)]


def open_local(path: str) -> BinaryIO:
    return open(path, "rb")


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **more: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar(files: Iterable[tuple[str | tarfile.TarInfo, bytes]], style: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=style, errors="surrogateescape") as archive:
        for name, content in files:
            archive.addfile(
                name if isinstance(name, tarfile.TarInfo) else header(name, len(content)), io.BytesIO(content)
            )
    return stream.getvalue()


def make_zip(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content, None if isinstance(name, str) else method)
    return stream.getvalue()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def compress(content: bytes, suffix: str) -> bytes:
    if suffix.endswith("gz"):
        return gzip.compress(content)
    if suffix.endswith("bz2"):
        return bz2.compress(content, 1)
    return zstd(content) if suffix.endswith("zst") else content


def listed(
    content: bytes,
    suffix: str = "tar",
    wanted: Callable[[str], bool] = lambda _: True,
    streamed: bool | None = None,
    open_file: Callable[[str], BinaryIO] | None = None,
) -> list[Source]:
    """What is in an archive of these bytes, which is called a.<suffix>."""
    streamed = STREAMED.get(suffix, False) if streamed is None else streamed
    opener = open_file or (lambda _: io.BytesIO(content))
    return list(members(f"a.{suffix}", wanted, opener, SIGNATURE, streamed=streamed))


def read(source: Source, archive: bytes) -> bytes | Failure:
    content = source.content
    assert isinstance(content, ByteRange | bytes | Failure)
    if isinstance(content, ByteRange):
        return unpack(content, archive[content.offset : content.offset + content.length])
    return content


def outcomes(content: bytes, suffix: str = "tar", streamed: bool | None = None) -> list[tuple[str, str]]:
    """Of each row its path below the archive, and its error code or ok."""
    sources = listed(content, suffix, streamed=streamed)
    results = [read(source, content) if source.content is not None else "as it is" for source in sources]
    codes = [
        result.code if isinstance(result, Failure) else result if isinstance(result, str) else "ok"
        for result in results
    ]
    return [(source.path.removeprefix(f"a.{suffix}"), code) for source, code in zip(sources, codes, strict=True)]


def fields(archive: bytes, number: int, **values: tuple[int, str, int]) -> bytes:
    """A zip whose entry of this number has other values in the central directory: each offset, format, value."""
    changed = bytearray(archive)
    at = -1
    for _ in range(number + 1):
        at = archive.index(b"PK\1\2", at + 1)
    for offset, kind, value in values.values():
        struct.pack_into(kind, changed, at + offset, value)
    return bytes(changed)


# What an archive is.


@pytest.mark.parametrize(
    ("path", "archive", "near", "far"),
    [
        ("a.tar", True, False, True),
        ("A.TAR", True, False, True),
        ("s3://bucket/a.tar.gz", True, True, True),
        ("a.tgz", True, True, True),
        ("a.Tar.Zst", True, True, True),
        ("a.tzst", True, True, True),
        ("a.tar.bz2", True, True, True),
        ("a.TBZ2", True, True, True),
        ("a.tar.xz", False, False, False),
        ("a.zip", True, False, False),
        ("comic.CBZ", True, False, False),
        ("a.gz", False, False, False),
        ("a.jpg", False, False, False),
        ("tar", False, False, False),
    ],
)
def test_archives_are_known_by_their_suffix(path: str, archive: bool, near: bool, far: bool) -> None:
    assert is_archive(path) == archive
    assert (is_streamed(path, remote=False), is_streamed(path, remote=True)) == (near, far)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("album.zip!dir/x.jpg", ("album.zip", "dir/x.jpg")),
        ("s3://bucket/a.TAR.gz!x.jpg", ("s3://bucket/a.TAR.gz", "x.jpg")),
        ("wow!/album.zip!x!.jpg", ("wow!/album.zip", "x!.jpg")),
        ("a.tar!b.zip!x.jpg", ("a.tar", "b.zip!x.jpg")),
        ("a.zip!two\nlines\0.jpg", ("a.zip", "two\nlines\0.jpg")),
        ("wow!.jpg", None),
        ("album.zip", None),
        ("album.zip!", None),
    ],
)
def test_a_key_is_split_at_the_first_archive(path: str, parts: tuple[str, str] | None) -> None:
    location = Location.parse(path)
    assert (location.container, location.name) == (parts or ("", ""))


# What is read is what tarfile and zipfile read themselves.


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("suffix", STREAMED)
def test_tars_give_what_tarfile_gives(suffix: str, style: int) -> None:
    long = "/".join(["d" * 90, "é" * 40, "x.png"])
    plain = tar([*IMAGES, (header("folder", kind=tarfile.DIRTYPE), b""), (long, image())], style)
    with tarfile.open(fileobj=io.BytesIO(plain)) as reference:
        expected = {info.name: reference.extractfile(info).read() for info in reference if info.isreg()}  # type: ignore[union-attr]  # of a file it is one
    sources = listed(compress(plain, suffix), suffix)
    assert [source.path for source in sources] == [f"a.{suffix}!{name}" for name in expected]
    assert [read(source, plain) for source in sources] == list(expected.values())
    assert [source.signature for source in sources] == [(len(content), 456) for content in expected.values()]
    assert {type(source.content) for source in sources} == {bytes if STREAMED[suffix] else ByteRange}


@pytest.mark.parametrize("suffix", ["zip", "cbz"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_give_what_zipfile_gives(suffix: str, method: int) -> None:
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


def test_zips_that_were_streamed_have_their_sizes_behind_the_data() -> None:
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


def test_a_zip_from_which_much_was_deleted_is_not_read_with_it() -> None:
    stream = io.BytesIO(make_zip([("a.png", image())]))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.start_dir += 10_000_000
        archive.writestr("b.png", image(1))
    content = stream.getvalue()
    assert read(listed(content, "zip")[0], content) == image()
    assert all(
        isinstance(source.content, ByteRange) and source.content.length < 200_000 for source in listed(content, "zip")
    )


def test_only_what_is_wanted_is_given() -> None:
    plain = tar(IMAGES)
    for content, suffix in ((plain, "tar"), (gzip.compress(plain), "tgz"), (make_zip(IMAGES), "zip")):
        asked: list[str] = []

        def wanted(name: str, asked: list[str] = asked) -> bool:
            asked.append(name)
            return name == "dir/7.png"

        (source,) = listed(content, suffix, wanted)
        assert (source.path, read(source, content)) == (f"a.{suffix}!dir/7.png", IMAGES[7][1])
        assert asked == [name for name, _ in IMAGES]


def test_members_come_while_the_archive_is_still_read() -> None:
    stream = io.BytesIO(tar(IMAGES * 100))
    found = members("a.tar", lambda _: True, lambda _: stream, SIGNATURE, streamed=True)
    assert next(found).path == "a.tar!dir/0.png"
    assert stream.tell() < 10_000
    found.close()  # type: ignore[attr-defined]  # it is a generator
    assert stream.closed


def test_memory_stays_flat(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tar.gz")
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(300):
            archive.addfile(header(f"{number}.jpg", 100_000), io.BytesIO(os.urandom(100_000)))
    list(members(path, lambda _: True, open_local, SIGNATURE, streamed=True))  # what is imported is not counted
    most, count = measured(lambda: sum(1 for _ in members(path, lambda _: True, open_local, SIGNATURE, streamed=True)))
    assert count == 300
    assert most < 2_000_000


def test_reads_as_short_as_a_network_s_are_put_together() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

    plain = tar(IMAGES)
    for content, suffix in ((plain, "tar"), (gzip.compress(plain), "tar.gz")):
        sources = listed(content, suffix, streamed=True, open_file=lambda _, content=content: Slow(content))  # type: ignore[misc]  # of a default argument
        assert [source.content for source in sources] == [image for _, image in IMAGES]


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_compressed_tars_may_be_of_several_parts(suffix: str) -> None:
    plain = tar(IMAGES)
    content = b"".join(compress(plain[at : at + 1000], suffix) for at in range(0, len(plain), 1000))
    if suffix == "tar.zst":
        content = struct.pack("<III", 0x184D2A50, 4, 0) + content  # a part that is to be skipped, as pzstd writes it
    assert [source.content for source in listed(content, suffix)] == [image for _, image in IMAGES]


@pytest.mark.parametrize(
    "content", [tar(IMAGES), *(compress(tar(IMAGES), suffix) for suffix in ("tgz", "tbz2", "tzst"))]
)
@pytest.mark.parametrize("suffix", ["tar.gz", "tzst"])
def test_what_a_tar_is_compressed_with_is_seen_from_what_it_begins_with(suffix: str, content: bytes) -> None:
    assert [source.content for source in listed(content, suffix)] == [image for _, image in IMAGES]


def test_tars_behind_each_other_are_all_read() -> None:
    content = tar(IMAGES[:5]) + tar(IMAGES[5:])
    for streamed in (False, True):
        assert [read(source, content) for source in listed(content, streamed=streamed)] == [data for _, data in IMAGES]


# Names.


def test_names_are_written_without_a_dot_before_them() -> None:
    names = ["./a.png", "././b.png", ".//c.png", ".hidden.png", "d/./e.png"]
    expected = [("!a.png", "ok"), ("!b.png", "ok"), ("!c.png", "ok"), ("!.hidden.png", "ok"), ("!d/./e.png", "ok")]
    assert outcomes(tar([(name, b"x") for name in names])) == expected
    assert outcomes(make_zip([(name, b"x") for name in names]), "zip") == expected


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "a/..", "..\\a.png"])
def test_names_that_lead_out_of_the_archive_are_refused(name: str) -> None:
    files = [(name, b"x"), ("b.png", b"y")]
    expected = [(f"!{name}", "unreadable"), ("!b.png", "ok")]
    assert outcomes(tar(files)) == expected
    assert outcomes(gzip.compress(tar(files)), "tgz") == expected
    assert outcomes(make_zip(files), "zip") == expected


def test_names_with_two_dots_in_them_lead_nowhere() -> None:
    assert outcomes(tar([("a..b/c...png", b"x")])) == [("!a..b/c...png", "ok")]


def test_odd_names_in_tars_come_as_python_has_them() -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "tab\t!.png", "wow!/x.png"]
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        content = tar([(name, b"x") for name in names], style)
        assert [source.path for source in listed(content)] == [f"a.tar!{name}" for name in names]
        assert os.fsencode(listed(content)[0].path) == b"a.tar!caf\xe9.png"


def test_odd_names_in_zips_come_as_python_has_them() -> None:
    content = make_zip([("aaaa.png", b"x"), ("b\nb.png", b"y"), ("nul?x.png", b"z")])
    content = content.replace(b"aaaa.png", b"caf\x82.png").replace(b"nul?x.png", b"nul\0x.png")
    assert outcomes(content, "zip") == [("!café.png", "ok"), ("!b\nb.png", "ok"), ("!nul", "ok")]


def test_a_nul_in_a_tar_s_name_breaks_nothing() -> None:
    content = tar([(header("x", 1, pax_headers={"path": "a\0b.png"}), b"x")])  # type: ignore[arg-type]  # a dict for an attribute
    assert listed(content)[0].path == "a.tar!a\0b.png"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_each_of_several_members_of_one_name_has_its_row() -> None:
    files = [("a.png", b"first"), ("a.png", b"second")]
    for content, suffix in ((tar(files), "tar"), (gzip.compress(tar(files)), "tgz"), (make_zip(files), "zip")):
        sources = listed(content, suffix)
        assert [source.path for source in sources] == [f"a.{suffix}!a.png"] * 2
        assert [read(source, content) for source in sources] == [b"first", b"second"]


# What is no image in an archive.


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(kind: bytes, streamed: bool) -> None:
    content = tar([("b.png", b"x"), (header("a.png", kind=kind, linkname="b.png"), b""), ("c.png", b"y")])
    expected = [("!b.png", "ok"), ("!a.png", "unreadable"), ("!c.png", "ok")]
    assert outcomes(content, streamed=streamed) == expected


def test_links_in_zips_are_refused() -> None:
    link = zipfile.ZipInfo("a.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert outcomes(make_zip([(link, b"/etc/passwd")]), "zip") == [("!a.png", "unreadable")]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("style", ["gnu", "posix"])
def test_sparse_members_are_refused_and_what_follows_is_read(tmp_path: Path, style: str, streamed: bool) -> None:
    if b"GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, check=False).stdout:
        pytest.skip("needs GNU tar")
    with open(tmp_path / "sparse.png", "wb") as file:
        file.write(b"x" * 4096)
        file.truncate(1 << 20)
    (tmp_path / "z.png").write_bytes(b"whole")
    command = ["tar", f"--format={style}", "--sparse", "-cf", "a.tar", "sparse.png", "z.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    content = (tmp_path / "a.tar").read_bytes()
    if len(content) > 1 << 20:
        pytest.skip("this file system has no holes")
    assert outcomes(content, streamed=streamed) == [("!sparse.png", "unsupported_format"), ("!z.png", "ok")]


def test_encrypted_members_are_refused() -> None:
    content = fields(make_zip([("a.png", b"x"), ("b.png", b"y")]), 0, flags=(8, "<H", 1))
    assert outcomes(content, "zip") == [("!a.png", "unreadable"), ("!b.png", "ok")]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_pack_a_zip_are_not_supported(method: int) -> None:
    assert outcomes(make_zip([("a.png", image())], method), "zip") == [("!a.png", "unsupported_format")]


# What is too large.


@pytest.mark.parametrize("streamed", [False, True])
def test_members_that_are_too_large_are_passed_over(monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.setattr(base, "MOST_BYTES", 5)
    files = [("a.png", b"123456"), ("b.png", b"12345")]
    expected = [("!a.png", "too_large"), ("!b.png", "ok")]
    assert outcomes(tar(files), streamed=streamed) == expected
    assert outcomes(make_zip(files), "zip") == expected


def test_a_zip_s_member_that_would_take_much_to_read_little_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_BYTES", 1000)
    content = fields(make_zip([("a.png", os.urandom(2000))]), 0, size=(24, "<I", 10))
    assert outcomes(content, "zip") == [("!a.png", "too_large")]


def test_a_zip_s_member_is_unpacked_no_further_than_it_says() -> None:
    content = fields(make_zip([("a.png", bytes(50_000_000))], zipfile.ZIP_DEFLATED), 0, size=(24, "<I", 1000))
    (source,) = listed(content, "zip")
    most, result = measured(lambda: read(source, content))
    assert most < 1_000_000
    assert result == Failure("too_large", "is larger than the 1,000 bytes that its archive says")


def test_zips_whose_members_overlap_are_no_bombs() -> None:
    kernel = make_zip([("a.png", b"x" * 1000), ("b.png", b"y" * 1000), ("c.png", b"z" * 1000)])
    inside = kernel.index(b"PK\3\4", 1) - 500
    quoted = fields(kernel, 1, offset=(42, "<I", inside))
    assert outcomes(quoted, "zip") == [("!a.png", "decode_error"), ("!b.png", "decode_error"), ("!c.png", "ok")]
    same = fields(kernel, 1, offset=(42, "<I", 0))
    assert outcomes(same, "zip") == [("!a.png", "decode_error"), ("!b.png", "decode_error"), ("!c.png", "ok")]
    behind = fields(kernel, 2, offset=(42, "<I", len(kernel) - 10))
    assert outcomes(behind, "zip")[2] == ("!c.png", "decode_error")


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_a_bomb_ends_its_archive(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(tar_module, "BOMB_BYTES", 1 << 20)
    plain = tar([("a.png", b"small"), ("b.png", bytes(50_000_000)), ("c.png", b"never read")])
    monkeypatch.setattr(base, "MOST_BYTES", 1000)
    assert outcomes(compress(plain, suffix), suffix) == [("!a.png", "ok"), ("!b.png", "too_large"), ("", "too_large")]
    (unwanted,) = listed(compress(plain, suffix), suffix, lambda name: name == "c.png")
    assert unwanted.path == f"a.{suffix}"


def test_what_compresses_well_and_is_not_large_is_no_bomb() -> None:
    plain = tar([("a.png", bytes(20_000_000))])
    assert outcomes(zstd(plain), "tar.zst") == [("!a.png", "ok")]


def test_a_header_of_a_tar_that_is_as_large_as_a_bomb_is_not_read() -> None:
    long_name = header("x", 50_000_000, tarfile.GNUTYPE_LONGNAME)
    content = tar([("a.png", b"x"), (long_name, b"n" * 50_000_000), ("b.png", b"x")])
    most, rows = measured(lambda: outcomes(gzip.compress(content, 1), "tgz"))
    assert most < 5_000_000
    assert rows == [("!a.png", "ok"), ("", "decode_error")]


def test_headers_within_headers_end() -> None:
    block = header("x", 0, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    assert outcomes(tar([("a.png", b"x")])[:1024] + block * 5000) == [("!a.png", "ok"), ("", "decode_error")]


@pytest.mark.parametrize("streamed", [False, True])
def test_sizes_below_nothing_do_not_lead_round_in_circles(streamed: bool) -> None:
    good = tar([("a.png", b"x")])[:1024]
    by_pax = tar([(header("b.png", 0, pax_headers={"size": "-512"}), b"")])  # type: ignore[arg-type]  # a dict for an attribute
    by_number = bytearray(header("b.png").tobuf(tarfile.GNU_FORMAT))
    by_number[124:136] = b"\xff" * 10 + b"\xfe\x00"
    by_number[148:156] = b"%06o\0 " % (sum(by_number[:148]) + sum(by_number[156:]) + 8 * 32)
    for bad in (by_pax, bytes(by_number) + bytes(1024)):
        assert outcomes(good + bad, streamed=streamed) == [("!a.png", "ok"), ("", "decode_error")]


# Archives that are cut short or damaged.


def whole_before(plain: bytes, length: int) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(plain)) as reference:
        return [info.name for info in reference if info.offset_data + info.size <= length]


@pytest.mark.parametrize("streamed", [False, True])
@given(st.integers(513, 12 * 512))
def test_of_a_tar_that_is_cut_short_the_rest_is_read(streamed: bool, length: int) -> None:
    plain = tar([(f"{number}.png", b"x" * 300 * number) for number in range(5)], tarfile.GNU_FORMAT)
    rows = outcomes(plain[:length], streamed=streamed)
    whole = [(f"!{name}", "ok") for name in whole_before(plain, length)]
    assert rows[: len(whole)] == whole
    if length < 9 * 512 + 512:  # no mark of the end
        assert rows[-1] == ("", "truncated")
        assert [code for _, code in rows[len(whole) :]] in (["truncated"], ["truncated", "truncated"])


@pytest.mark.parametrize("streamed", [False, True])
def test_the_member_that_is_cut_and_its_archive_each_have_a_row(streamed: bool) -> None:
    plain = tar([("a.png", b"x" * 600), ("b.png", b"y" * 600), ("c.png", b"z")])
    expected = [("!a.png", "ok"), ("!b.png", "truncated"), ("", "truncated")]
    assert outcomes(plain[: 1536 + 512 + 599], streamed=streamed) == expected
    assert outcomes(plain[: 1536 + 512], streamed=streamed) == expected
    assert outcomes(plain[: 512 + 599], streamed=streamed) == [("!a.png", "truncated"), ("", "truncated")]
    assert outcomes(plain[:512], streamed=streamed) == [("!a.png", "truncated"), ("", "truncated")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tar_without_the_mark_of_its_end_may_lack_something(streamed: bool) -> None:
    assert outcomes(tar(IMAGES[:1])[:1024], streamed=streamed) == [("!dir/0.png", "ok"), ("", "truncated")]


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_of_a_compressed_tar_that_is_cut_short_the_rest_is_read(suffix: str) -> None:
    plain = tar([(f"{number}.png", os.urandom(50_000)) for number in range(10)])
    content = compress(plain, suffix)
    rows = outcomes(content[: len(content) // 2], suffix)
    assert rows[-2:] == [(f"!{len(rows) - 2}.png", "truncated"), ("", "truncated")]
    assert len(rows) in ((4, 5, 6) if suffix == "tar.bz2" else (6, 7))  # its blocks are of 100 kB
    assert {code for _, code in rows[:-2]} == {"ok"}
    assert outcomes(content[:30], suffix) == [("", "truncated")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_header_that_is_damaged_is_not_taken_for_the_end(streamed: bool) -> None:
    content = bytearray(tar([("a.png", b"x"), ("b.png", b"y"), ("c.png", b"z")]))
    content[1024 + 20] ^= 1
    sources = listed(bytes(content), streamed=streamed)
    assert [source.path for source in sources] == ["a.tar!a.png", "a.tar"]
    assert sources[1].content == Failure(
        "decode_error", "the archive is damaged: bad checksum; what follows is not read"
    )
    assert sources[1].signature == SIGNATURE


def test_rubbish_behind_the_end_of_a_tar_is_not_passed_over() -> None:
    assert outcomes(tar([("a.png", b"x")]) + b"rubbish" * 100) == [("!a.png", "ok"), ("", "decode_error")]


def test_any_number_of_zeros_behind_the_end_is_its_end() -> None:
    assert outcomes(tar([("a.png", b"x")]) + bytes(10_000_100)) == [("!a.png", "ok")]
    assert outcomes(bytes(10_240)) == []


@pytest.mark.parametrize("at", [0.3, 0.6, 1.0])
def test_damaged_gzip_data_are_one_row(at: float) -> None:
    content = bytearray(gzip.compress(tar([(f"{number}.png", os.urandom(50_000)) for number in range(20)])))
    content[min(int(len(content) * at), len(content) - 6)] ^= 0x55  # the last are the checksum
    rows = outcomes(bytes(content), "tgz")
    assert rows[-1] == ("", "decode_error")
    assert Counter(path for path, _ in rows)[""] == 1
    assert {code for _, code in rows[:-2]} == {"ok"}


def test_damaged_zstd_data_are_one_row() -> None:
    content = bytearray(zstd(tar([(f"{number}.png", b"%d " % number * 30_000) for number in range(300)])))
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    rows = outcomes(bytes(content), "tzst")
    assert rows[-1] == ("", "decode_error")
    assert 10 < len(rows) < 300


def test_a_zip_that_is_cut_short_is_one_row() -> None:
    content = make_zip(IMAGES)
    assert outcomes(content[: len(content) // 2], "zip") == [("", "truncated")]
    assert outcomes(content[:-10], "zip") == [("", "truncated")]


def test_a_zip_whose_directory_is_damaged_is_one_row() -> None:
    content = make_zip(IMAGES)
    assert outcomes(content.replace(b"PK\1\2", b"PK\1\1", 1), "zip") == [("", "decode_error")]
    assert outcomes(fields(content, 3, version=(6, "<H", 99)), "zip") == [("", "decode_error")]
    size = len(content) - 22 + 12
    assert outcomes(content[:size] + bytes(4) + content[size + 4 :], "zip") == [("", "decode_error")]
    assert outcomes(make_zip([]), "zip") == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_members_of_a_zip_have_their_rows(method: int) -> None:
    files = [("a.png", image(1)), ("b.png", image(2)), ("c.png", image(3))]
    content = bytearray(make_zip(files, method))
    header_of_b, data_of_c = content.index(b"b.png") - 30, content.index(b"c.png") + 40
    content[header_of_b] ^= 1
    content[data_of_c] ^= 0x55
    assert outcomes(bytes(content), "zip") == [("!a.png", "ok"), ("!b.png", "decode_error"), ("!c.png", "decode_error")]


def test_bytes_that_are_missing_are_truncated() -> None:
    for content, suffix in ((tar(IMAGES), "tar"), (make_zip(IMAGES), "zip")):
        span = listed(content, suffix)[4].content
        assert isinstance(span, ByteRange)
        raw = content[span.offset : span.offset + span.length]
        for length in (0, 10, span.length - 1):
            result = unpack(span, raw[:length])
            assert isinstance(result, Failure)
            assert result.code == "truncated"


def test_a_member_that_deflates_to_less_than_it_says_is_damaged() -> None:
    packed = make_zip([("a.png", b"x" * 1000)], zipfile.ZIP_DEFLATED)
    span = listed(packed, "zip")[0].content
    assert isinstance(span, ByteRange)
    result = unpack(replace(span, size=1001), packed[: span.length])
    assert isinstance(result, Failure)
    assert result.code == "decode_error"
    assert unpack(replace(span, crc=zlib.crc32(b"other")), packed[: span.length]) == Failure(
        "decode_error", "its data in the archive are damaged: wrong size or checksum"
    )


@given(st.data())
def test_no_damage_is_an_exception(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["tar", "zip", "tgz", "tar.zst"]))
    content = bytearray(FUZZED[suffix])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[at] = data.draw(st.integers(0, 255))
    outcomes(bytes(content), suffix)


FUZZED = {
    "tar": tar(IMAGES[:2]),
    "zip": make_zip(IMAGES[:2], zipfile.ZIP_DEFLATED),
    "tgz": gzip.compress(tar(IMAGES[:2])),
    "tar.zst": zstd(tar(IMAGES[:2])),
}


# What is no archive.


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tzst", "zip", "cbz"])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", image(), b"text\n" * 1000])
def test_what_is_no_archive_is_tried_as_an_image(suffix: str, content: bytes) -> None:
    assert listed(content, suffix) == [Source(f"a.{suffix}")]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_what_cannot_be_opened_is_tried_as_an_image(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"a.{suffix}")
    assert list(members(path, lambda _: True, open_local, (None, None), streamed=suffix == "tar.gz")) == [Source(path)]
    os.mkdir(path)
    assert list(members(path, lambda _: True, open_local, (None, None), streamed=suffix == "tar.gz")) == [Source(path)]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_a_connection_that_is_lost_is_a_row(suffix: str) -> None:
    class Lost(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100_000:
                raise TimeoutError("no answer")
            return super().read(size)

    files = [(f"{number}.png", os.urandom(50_000)) for number in range(6)]
    content = make_zip(files) if suffix == "zip" else compress(tar(files), suffix)
    sources = listed(content, suffix, streamed=suffix != "zip", open_file=lambda _: Lost(content))
    assert isinstance(sources[-1].content, Failure)
    assert (sources[-1].path, sources[-1].content.code) == (f"a.{suffix}", "timeout")


# One member by its name.


@pytest.mark.parametrize("suffix", ["tar", "tgz", "zip"])
def test_a_member_is_found_by_its_name(suffix: str) -> None:
    content = make_zip(IMAGES) if suffix == "zip" else compress(tar(IMAGES), suffix)

    def one(name: str) -> Source:
        return member(f"a.{suffix}", name, lambda _: io.BytesIO(content), SIGNATURE, streamed=suffix == "tgz")

    assert one("dir/7.png") == listed(content, suffix)[7]
    assert read(one("dir/7.png"), content) == IMAGES[7][1]
    missing = Source(f"a.{suffix}!dir/x.png", Failure("vanished", "no such image in the archive"))
    assert one("dir/x.png") == missing


def test_many_members_of_one_archive_are_found_with_one_reading(tmp_path: Path) -> None:
    opened: list[str] = []
    paths = [str(tmp_path / name) for name in ("a.tar", "b.zip")]
    Path(paths[0]).write_bytes(tar(IMAGES))
    Path(paths[1]).write_bytes(make_zip(IMAGES))
    for name, _ in IMAGES:
        for path in paths:

            def open_file(path: str) -> BinaryIO:  # another each time
                opened.append(path)
                return open(path, "rb")

            assert isinstance(member(path, name, open_file, (1, 2), streamed=False).content, ByteRange)
    assert opened == paths
    Path(paths[0]).write_bytes(tar([("new.png", b"x")]))
    assert isinstance(member(paths[0], "new.png", open_local, (3, 4), streamed=False).content, ByteRange)


def test_a_member_of_an_archive_that_is_not_there_has_vanished(tmp_path: Path) -> None:
    for path in (str(tmp_path / "a.zip"), str(tmp_path / "a.tgz")):
        content = member(path, "a.png", open_local, (None, None), streamed=path.endswith("tgz")).content
        assert isinstance(content, Failure)
        assert content.code == "vanished"


@pytest.mark.parametrize(("content", "code"), [(b"no archive", "unreadable"), (make_zip(IMAGES)[:1000], "truncated")])
def test_a_member_of_an_archive_that_is_damaged_says_so(content: bytes, code: str) -> None:
    found = member("a.zip", "a.png", lambda _: io.BytesIO(content), (len(content), 0), streamed=False).content
    assert isinstance(found, Failure)
    assert found.code == code


# The directory of a zip.


def directory(entries: int, *, size: int | None = None, spread: int = 0) -> bytes:
    """A zip64 of so many empty members, in which the directory says that it has another size."""
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


def test_a_zip_s_directory_is_read_as_a_stream() -> None:
    content = directory(20_000)
    with zipfile.ZipFile(io.BytesIO(content)) as reference:
        expected = [(f"a.zip!{info.filename}", info.header_offset) for info in reference.infolist()]
    found = members("a.zip", lambda _: True, lambda _: io.BytesIO(content), SIGNATURE, streamed=False)
    assert [
        (source.path, source.content.offset) for source in found if isinstance(source.content, ByteRange)
    ] == expected

    def count() -> int:
        found = members("a.zip", lambda _: True, lambda _: io.BytesIO(content), SIGNATURE, streamed=False)
        return sum(1 for _ in found)

    most, counted = measured(count)
    assert counted == 20_000
    assert most < 6_000_000, "three pieces of 1 MiB and 30 bytes a member"


def test_long_comments_of_a_zip_s_members_are_passed_over() -> None:
    content = directory(40, spread=0xFFFF)
    assert outcomes(content, "zip") == [(f"!{number:07}.png", "ok") for number in range(40)]


def test_a_zip_with_too_large_a_directory_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_module, "_MOST_DIRECTORY", 6_000)
    assert {code for _, code in outcomes(directory(80), "zip")} == {"ok"}
    (source,) = listed(directory(90), "zip")
    message = "the archive's directory has 6,210 bytes, over 6,000"
    assert (source.path, source.content) == ("a.zip", Failure("too_large", message))


@pytest.mark.parametrize("size", [0, 1, 46 * 5, 69 * 10 - 1, 69 * 10 + 1, 1 << 40, (1 << 64) - 1])
def test_a_zip_s_directory_that_lies_about_its_size_is_one_row(size: int) -> None:
    assert outcomes(directory(10, size=size), "zip") == [("", "decode_error")]


def test_a_member_of_a_zip_with_very_many_is_found_without_keeping_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_INDEXED", 5)
    content = make_zip(IMAGES)
    archives._index.cache_clear()
    for name, data in (IMAGES[2], IMAGES[9]):
        found = member("many.zip", name, lambda _: io.BytesIO(content), (9, 9), streamed=False)
        assert read(found, content) == data
    missing = member("many.zip", "x.png", lambda _: io.BytesIO(content), (9, 9), streamed=False)
    assert missing.content == Failure("vanished", "no such image in the archive")
