"""Tars and zips alike: which files are archives, the names in them, and one member by its name."""

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.discovery.containers import base
from dinoclassify.discovery.containers.archive import is_streamed, member, members
from dinoclassify.discovery.containers.suffixes import is_archive
from dinoclassify.storage.reader import unpack
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source
from tests.helpers.archives import (
    IMAGES,
    SIGNATURE,
    compress,
    image,
    listed,
    make_zip,
    open_local,
    outcomes,
    read,
    tar,
    zstd,
)


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
def test_archives_are_recognised_by_their_suffix(path: str, archive: bool, near: bool, far: bool) -> None:
    assert is_archive(path) == archive
    assert (is_streamed(path), is_streamed(f"s3://bucket/{path}")) == (near, far)


def test_only_wanted_members_are_listed() -> None:
    plain = tar(IMAGES)
    for content, suffix in ((plain, "tar"), (gzip.compress(plain), "tgz"), (make_zip(IMAGES), "zip")):
        asked: list[str] = []

        def wanted(name: str, asked: list[str] = asked) -> bool:
            asked.append(name)
            return name == "dir/7.png"

        (source,) = listed(content, suffix, wanted)
        assert (source.path, read(source, content)) == (f"a.{suffix}!dir/7.png", IMAGES[7][1])
        assert asked == [name for name, _ in IMAGES]


def test_a_leading_dot_slash_is_left_out_of_names() -> None:
    names = ["./a.png", "././b.png", ".//c.png", ".hidden.png", "d/./e.png"]
    expected = [("!a.png", "ok"), ("!b.png", "ok"), ("!c.png", "ok"), ("!.hidden.png", "ok"), ("!d/./e.png", "ok")]
    assert outcomes(tar([(name, b"x") for name in names])) == expected
    assert outcomes(make_zip([(name, b"x") for name in names]), "zip") == expected


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "a/..", "..\\a.png"])
def test_names_that_escape_the_archive_are_refused(name: str) -> None:
    files = [(name, b"x"), ("b.png", b"y")]
    expected = [(f"!{name}", "unreadable"), ("!b.png", "ok")]
    assert outcomes(tar(files)) == expected
    assert outcomes(gzip.compress(tar(files)), "tgz") == expected
    assert outcomes(make_zip(files), "zip") == expected


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_with_the_same_name_each_get_a_row() -> None:
    files = [("a.png", b"first"), ("a.png", b"second")]
    for content, suffix in ((tar(files), "tar"), (gzip.compress(tar(files)), "tgz"), (make_zip(files), "zip")):
        sources = listed(content, suffix)
        assert [source.path for source in sources] == [f"a.{suffix}!a.png"] * 2
        assert [read(source, content) for source in sources] == [b"first", b"second"]


@pytest.mark.parametrize("streamed", [False, True])
def test_members_over_the_size_limit_are_too_large(monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.setattr(base, "MOST_BYTES", 5)
    files = [("a.png", b"123456"), ("b.png", b"12345")]
    expected = [("!a.png", "too_large"), ("!b.png", "ok")]
    assert outcomes(tar(files), streamed=streamed) == expected
    assert outcomes(make_zip(files), "zip") == expected


def test_a_member_with_missing_bytes_is_truncated() -> None:
    for content, suffix in ((tar(IMAGES), "tar"), (make_zip(IMAGES), "zip")):
        span = listed(content, suffix)[4].content
        assert isinstance(span, ByteRange)
        raw = content[span.offset : span.offset + span.length]
        for length in (0, 10, span.length - 1):
            result = unpack(span, raw[:length])
            assert isinstance(result, Failure)
            assert result.code == "truncated"


@given(st.data())
def test_no_damage_raises_an_exception(data: st.DataObject) -> None:
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


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tzst", "zip", "cbz"])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", image(), b"text\n" * 1000])
def test_a_file_that_is_not_an_archive_is_tried_as_an_image(suffix: str, content: bytes) -> None:
    assert listed(content, suffix) == [Source(f"a.{suffix}")]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_an_archive_that_cannot_be_opened_is_tried_as_an_image(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"a.{suffix}")
    assert list(members(path, lambda _: True, open_local, (None, None), streamed=suffix == "tar.gz")) == [Source(path)]
    os.mkdir(path)
    assert list(members(path, lambda _: True, open_local, (None, None), streamed=suffix == "tar.gz")) == [Source(path)]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_a_lost_connection_gives_a_failed_row(suffix: str) -> None:
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


@pytest.mark.parametrize("suffix", ["tar", "tgz", "zip"])
def test_a_member_is_found_by_its_name(suffix: str) -> None:
    content = make_zip(IMAGES) if suffix == "zip" else compress(tar(IMAGES), suffix)

    def one(name: str) -> Source:
        return member(f"a.{suffix}", name, lambda _: io.BytesIO(content), SIGNATURE)

    assert one("dir/7.png") == listed(content, suffix)[7]
    assert read(one("dir/7.png"), content) == IMAGES[7][1]
    missing = Source(f"a.{suffix}!dir/x.png", Failure("vanished", "no such image in the archive"))
    assert one("dir/x.png") == missing


def test_an_archive_is_opened_once_for_many_members(tmp_path: Path) -> None:
    opened: list[str] = []
    paths = [str(tmp_path / name) for name in ("a.tar", "b.zip")]
    Path(paths[0]).write_bytes(tar(IMAGES))
    Path(paths[1]).write_bytes(make_zip(IMAGES))
    for name, _ in IMAGES:
        for path in paths:

            def open_file(path: str) -> BinaryIO:  # another each time
                opened.append(path)
                return open(path, "rb")

            assert isinstance(member(path, name, open_file, (1, 2)).content, ByteRange)
    assert opened == paths
    Path(paths[0]).write_bytes(tar([("new.png", b"x")]))
    assert isinstance(member(paths[0], "new.png", open_local, (3, 4)).content, ByteRange)


def test_a_member_of_a_missing_archive_has_vanished(tmp_path: Path) -> None:
    for path in (str(tmp_path / "a.zip"), str(tmp_path / "a.tgz")):
        content = member(path, "a.png", open_local, (None, None)).content
        assert isinstance(content, Failure)
        assert content.code == "vanished"


@pytest.mark.parametrize(("content", "code"), [(b"no archive", "unreadable"), (make_zip(IMAGES)[:1000], "truncated")])
def test_a_member_of_a_damaged_archive_says_so(content: bytes, code: str) -> None:
    found = member("a.zip", "a.png", lambda _: io.BytesIO(content), (len(content), 0)).content
    assert isinstance(found, Failure)
    assert found.code == code
