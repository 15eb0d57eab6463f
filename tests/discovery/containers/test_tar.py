"""The images in tars and zips: read where they are, byte for byte, and what becomes of those that cannot be."""

import gzip
import io
import os
import struct
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.discovery.containers import base
from dinoclassify.discovery.containers import tar as tar_module
from dinoclassify.discovery.containers.archive import members
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange
from tests.helpers.archives import (
    IMAGES,
    SIGNATURE,
    STREAMED,
    compress,
    header,
    image,
    listed,
    open_local,
    outcomes,
    read,
    tar,
    zstd,
)
from tests.helpers.memory import measured


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("suffix", STREAMED)
def test_tars_are_read_as_tarfile_reads_them(suffix: str, style: int) -> None:
    long = "/".join(["d" * 90, "é" * 40, "x.png"])
    plain = tar([*IMAGES, (header("folder", kind=tarfile.DIRTYPE), b""), (long, image())], style)
    with tarfile.open(fileobj=io.BytesIO(plain)) as reference:
        expected = {info.name: reference.extractfile(info).read() for info in reference if info.isreg()}  # type: ignore[union-attr]  # of a file it is one
    sources = listed(compress(plain, suffix), suffix)
    assert [source.path for source in sources] == [f"a.{suffix}!{name}" for name in expected]
    assert [read(source, plain) for source in sources] == list(expected.values())
    assert [source.signature for source in sources] == [(len(content), 456) for content in expected.values()]
    assert {type(source.content) for source in sources} == {bytes if STREAMED[suffix] else ByteRange}


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

    def count() -> int:
        return sum(1 for _ in members(path, lambda _: True, open_local, SIGNATURE, streamed=True))

    most, counted = measured(count, below=2_000_000)  # what is imported counts the first time only
    assert counted == 300
    assert most < 2_000_000


def test_short_network_reads_are_joined() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

    plain = tar(IMAGES)
    for content, suffix in ((plain, "tar"), (gzip.compress(plain), "tar.gz")):
        sources = listed(content, suffix, streamed=True, open_file=lambda _, content=content: Slow(content))  # type: ignore[misc]  # of a default argument
        assert [source.content for source in sources] == [image for _, image in IMAGES]


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_compressed_tars_of_several_parts_are_read(suffix: str) -> None:
    plain = tar(IMAGES)
    content = b"".join(compress(plain[at : at + 1000], suffix) for at in range(0, len(plain), 1000))
    if suffix == "tar.zst":
        content = struct.pack("<III", 0x184D2A50, 4, 0) + content  # a part that is to be skipped, as pzstd writes it
    assert [source.content for source in listed(content, suffix)] == [image for _, image in IMAGES]


@pytest.mark.parametrize(
    "content", [tar(IMAGES), *(compress(tar(IMAGES), suffix) for suffix in ("tgz", "tbz2", "tzst"))]
)
@pytest.mark.parametrize("suffix", ["tar.gz", "tzst"])
def test_compression_is_recognised_by_the_first_bytes(suffix: str, content: bytes) -> None:
    assert [source.content for source in listed(content, suffix)] == [image for _, image in IMAGES]


def test_concatenated_tars_are_all_read() -> None:
    content = tar(IMAGES[:5]) + tar(IMAGES[5:])
    for streamed in (False, True):
        assert [read(source, content) for source in listed(content, streamed=streamed)] == [data for _, data in IMAGES]


def test_names_that_merely_contain_two_dots_are_accepted() -> None:
    assert outcomes(tar([("a..b/c...png", b"x")])) == [("!a..b/c...png", "ok")]


def test_names_that_are_not_utf8_and_control_characters_are_kept() -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "tab\t!.png", "wow!/x.png"]
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        content = tar([(name, b"x") for name in names], style)
        assert [source.path for source in listed(content)] == [f"a.tar!{name}" for name in names]
        assert os.fsencode(listed(content)[0].path) == b"a.tar!caf\xe9.png"


def test_a_nul_in_a_name_is_kept() -> None:
    content = tar([(header("x", 1, pax_headers={"path": "a\0b.png"}), b"x")])  # type: ignore[arg-type]  # a dict for an attribute
    assert listed(content)[0].path == "a.tar!a\0b.png"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(kind: bytes, streamed: bool) -> None:
    content = tar([("b.png", b"x"), (header("a.png", kind=kind, linkname="b.png"), b""), ("c.png", b"y")])
    expected = [("!b.png", "ok"), ("!a.png", "unreadable"), ("!c.png", "ok")]
    assert outcomes(content, streamed=streamed) == expected


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("style", ["gnu", "posix"])
def test_sparse_members_are_refused_and_the_next_is_read(tmp_path: Path, style: str, streamed: bool) -> None:
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


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_reading_stops_at_a_decompression_bomb(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(tar_module, "BOMB_BYTES", 1 << 20)
    plain = tar([("a.png", b"small"), ("b.png", bytes(50_000_000)), ("c.png", b"never read")])
    monkeypatch.setattr(base, "MOST_BYTES", 1000)
    assert outcomes(compress(plain, suffix), suffix) == [("!a.png", "ok"), ("!b.png", "too_large"), ("", "too_large")]
    (unwanted,) = listed(compress(plain, suffix), suffix, lambda name: name == "c.png")
    assert unwanted.path == f"a.{suffix}"


def test_a_small_file_that_compresses_well_is_not_a_bomb() -> None:
    plain = tar([("a.png", bytes(20_000_000))])
    assert outcomes(zstd(plain), "tar.zst") == [("!a.png", "ok")]


def test_a_huge_header_is_not_read_into_memory() -> None:
    long_name = header("x", 50_000_000, tarfile.GNUTYPE_LONGNAME)
    content = tar([("a.png", b"x"), (long_name, b"n" * 50_000_000), ("b.png", b"x")])
    most, rows = measured(lambda: outcomes(gzip.compress(content, 1), "tgz"), below=5_000_000)
    assert most < 5_000_000
    assert rows == [("!a.png", "ok"), ("", "decode_error")]


def test_endlessly_nested_headers_are_refused() -> None:
    block = header("x", 0, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    assert outcomes(tar([("a.png", b"x")])[:1024] + block * 5000) == [("!a.png", "ok"), ("", "decode_error")]


@pytest.mark.parametrize("streamed", [False, True])
def test_negative_sizes_do_not_loop_forever(streamed: bool) -> None:
    good = tar([("a.png", b"x")])[:1024]
    by_pax = tar([(header("b.png", 0, pax_headers={"size": "-512"}), b"")])  # type: ignore[arg-type]  # a dict for an attribute
    by_number = bytearray(header("b.png").tobuf(tarfile.GNU_FORMAT))
    by_number[124:136] = b"\xff" * 10 + b"\xfe\x00"
    by_number[148:156] = b"%06o\0 " % (sum(by_number[:148]) + sum(by_number[156:]) + 8 * 32)
    for bad in (by_pax, bytes(by_number) + bytes(1024)):
        assert outcomes(good + bad, streamed=streamed) == [("!a.png", "ok"), ("", "decode_error")]


def whole_before(plain: bytes, length: int) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(plain)) as reference:
        return [info.name for info in reference if info.offset_data + info.size <= length]


@pytest.mark.parametrize("streamed", [False, True])
@given(st.integers(513, 12 * 512))
def test_members_before_a_cut_are_read(streamed: bool, length: int) -> None:
    plain = tar([(f"{number}.png", b"x" * 300 * number) for number in range(5)], tarfile.GNU_FORMAT)
    rows = outcomes(plain[:length], streamed=streamed)
    whole = [(f"!{name}", "ok") for name in whole_before(plain, length)]
    assert rows[: len(whole)] == whole
    if length < 9 * 512 + 512:  # no mark of the end
        assert rows[-1] == ("", "truncated")
        assert [code for _, code in rows[len(whole) :]] in (["truncated"], ["truncated", "truncated"])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cut_member_and_its_archive_each_get_a_row(streamed: bool) -> None:
    plain = tar([("a.png", b"x" * 600), ("b.png", b"y" * 600), ("c.png", b"z")])
    expected = [("!a.png", "ok"), ("!b.png", "truncated"), ("", "truncated")]
    assert outcomes(plain[: 1536 + 512 + 599], streamed=streamed) == expected
    assert outcomes(plain[: 1536 + 512], streamed=streamed) == expected
    assert outcomes(plain[: 512 + 599], streamed=streamed) == [("!a.png", "truncated"), ("", "truncated")]
    assert outcomes(plain[:512], streamed=streamed) == [("!a.png", "truncated"), ("", "truncated")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tar_without_its_end_marker_is_reported_as_truncated(streamed: bool) -> None:
    assert outcomes(tar(IMAGES[:1])[:1024], streamed=streamed) == [("!dir/0.png", "ok"), ("", "truncated")]


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.zst"])
def test_members_before_a_cut_of_a_compressed_tar_are_read(suffix: str) -> None:
    plain = tar([(f"{number}.png", os.urandom(50_000)) for number in range(10)])
    content = compress(plain, suffix)
    rows = outcomes(content[: len(content) // 2], suffix)
    assert rows[-2:] == [(f"!{len(rows) - 2}.png", "truncated"), ("", "truncated")]
    assert len(rows) in ((4, 5, 6) if suffix == "tar.bz2" else (6, 7))  # its blocks are of 100 kB
    assert {code for _, code in rows[:-2]} == {"ok"}
    assert outcomes(content[:30], suffix) == [("", "truncated")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_damaged_header_is_not_taken_for_the_end(streamed: bool) -> None:
    content = bytearray(tar([("a.png", b"x"), ("b.png", b"y"), ("c.png", b"z")]))
    content[1024 + 20] ^= 1
    sources = listed(bytes(content), streamed=streamed)
    assert [source.path for source in sources] == ["a.tar!a.png", "a.tar"]
    assert sources[1].content == Failure(
        "decode_error", "the archive is damaged: bad checksum; what follows is not read"
    )
    assert sources[1].signature == SIGNATURE


def test_garbage_after_the_end_is_reported() -> None:
    assert outcomes(tar([("a.png", b"x")]) + b"rubbish" * 100) == [("!a.png", "ok"), ("", "decode_error")]


def test_any_number_of_zeros_may_follow_the_end() -> None:
    assert outcomes(tar([("a.png", b"x")]) + bytes(10_000_100)) == [("!a.png", "ok")]
    assert outcomes(bytes(10_240)) == []


@pytest.mark.parametrize("at", [0.3, 0.6, 1.0])
def test_damaged_gzip_data_give_one_row(at: float) -> None:
    content = bytearray(gzip.compress(tar([(f"{number}.png", os.urandom(50_000)) for number in range(20)])))
    content[min(int(len(content) * at), len(content) - 6)] ^= 0x55  # the last are the checksum
    rows = outcomes(bytes(content), "tgz")
    assert rows[-1] == ("", "decode_error")
    assert Counter(path for path, _ in rows)[""] == 1
    assert {code for _, code in rows[:-2]} == {"ok"}


def test_damaged_zstd_data_give_one_row() -> None:
    content = bytearray(zstd(tar([(f"{number}.png", b"%d " % number * 30_000) for number in range(300)])))
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    rows = outcomes(bytes(content), "tzst")
    assert rows[-1] == ("", "decode_error")
    assert 10 < len(rows) < 300
