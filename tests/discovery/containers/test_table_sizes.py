"""Tables that would become far larger than they are: refused before they are unpacked."""

import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.discovery.containers import table as image_tables
from dinoclassify.discovery.containers import table_sizes
from dinoclassify.discovery.containers.table import images as images_of
from dinoclassify.types.prediction import Failure
from tests.helpers.tables import SIGNATURE, codes, listed, structs, written


def repeated(value: bytes, rows: int) -> bytes:
    """A Parquet table of rows that all refer to one stored value."""
    stream = io.BytesIO()
    images = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value], pa.binary()))
    column = pa.StructArray.from_arrays([images, pa.array(["x.png"] * rows)], ["bytes", "path"])
    limit = 1 << 30
    pq.write_table(
        pa.table({"image": column}), stream, compression="zstd", dictionary_pagesize_limit=limit, store_schema=False
    )
    return stream.getvalue()


def test_a_value_repeated_by_many_rows_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    content = repeated(bytes(1_000_000), 16)
    assert codes(listed(content, "parquet")) == ["ok"] * 16
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 3_500_000)
    sources = listed(content, "parquet")
    assert codes(sources) == ["ok"] * 3 + ["too_large"] * 13
    assert [source.path for source in sources] == [f"a.parquet!{number}" for number in range(16)]
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 500_000)
    before = pa.default_memory_pool().bytes_allocated()
    found = images_of("a.parquet", "image", lambda _: io.BytesIO(content), SIGNATURE)
    assert next(found).content == Failure("too_large", "the table unpacks to over 200 times its size")
    assert pa.default_memory_pool().bytes_allocated() - before < 500_000, "nothing of it is read"
    assert codes(list(found)) == ["too_large"] * 15


def test_a_false_size_in_the_footer_does_not_hide_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    def number(value: int) -> bytes:
        """As Thrift writes it, in four bytes."""
        return bytes([value * 2 >> shift & 127 | (128 if shift < 21 else 0) for shift in (0, 7, 14, 21)])

    content = repeated(bytes(4_000_000), 16)
    chunk = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0)
    lie = content.replace(number(chunk.total_uncompressed_size), number(100))
    assert pq.ParquetFile(io.BytesIO(lie)).metadata.row_group(0).column(0).total_uncompressed_size == 100
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 3_000_000)
    assert codes(listed(lie, "parquet")) == ["too_large"] * 16


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("packing", ["gzip", "zstd", "brotli", "lz4", "snappy", "none"])
def test_page_headers_of_every_kind_are_read(monkeypatch: pytest.MonkeyPatch, packing: str, version: str) -> None:
    looked: list[table_sizes.Sizes] = []
    looked_at = table_sizes.pages

    def pages(*arguments: "io.BytesIO | int") -> Iterator[table_sizes.Sizes]:
        for page in looked_at(*arguments):  # type: ignore[arg-type]  # as it is called
            looked.append(page)
            yield page

    monkeypatch.setattr(table_sizes, "pages", pages)
    stream = io.BytesIO()
    contents = [random.Random(number).randbytes(1000) for number in range(200)]
    table = pa.table({"other": list(range(200)), "image": structs(contents)})
    how = {"data_page_size": 2000, "write_batch_size": 1, "data_page_version": version, "row_group_size": 50}
    pq.write_table(table, stream, compression=packing, write_page_checksum=True, **how)
    assert [source.content for source in listed(stream.getvalue(), "parquet")] == contents
    unpacked = sum(page.unpacked for page in looked)
    assert unpacked == 0 if packing in ("snappy", "none") else 200_000 < unpacked < 220_000


@given(st.binary(max_size=200))
def test_garbage_in_place_of_a_page_does_not_hang(content: bytes) -> None:
    for most in (len(content), 1 << 40):
        try:
            for page in table_sizes.pages(io.BytesIO(content), 0, most):
                assert min(page.packed, page.unpacked) >= 0
        except (ValueError, KeyError):
            pass


@pytest.mark.parametrize("kind", ["stream.arrow", "file.arrow"])
@pytest.mark.parametrize("packing", ["zstd", "lz4"])
def test_a_compressed_batch_that_is_a_bomb_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch, kind: str, packing: str
) -> None:
    small, large = pa.array([b"small"]), pa.array([bytes(4_000_000)])
    stream = io.BytesIO()
    new = pa.ipc.new_stream if kind.startswith("stream") else pa.ipc.new_file
    names = pa.array(["x"]).dictionary_encode()
    schema = pa.schema([("name", names.type), ("image", pa.binary())])
    with new(stream, schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer:
        for images in (small, large, small):
            writer.write_batch(pa.record_batch([names, images], schema=schema))
    content = stream.getvalue()
    assert len(content) < 50_000
    assert codes(listed(content, kind)) == ["ok"] * 3
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 3_000_000)
    monkeypatch.setattr(image_tables, "BOMB_RATIO", 20)
    sources = listed(content, kind)
    assert codes(sources) == (["ok", "too_large"] if kind.startswith("stream") else ["too_large"])
    assert sources[-1].path == f"a.{kind}"


def test_many_views_of_one_value_are_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = pa.py_buffer(os.urandom(100_000))
    view = (100_000).to_bytes(4, "little") + buffer[:4].to_pybytes() + bytes(8)
    column = pa.Array.from_buffers(pa.binary_view(), 1000, [None, pa.py_buffer(view * 1000), buffer])
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 1_000_000)
    sources = listed(written({"image": column}, "stream.arrow", rows=1000), "stream.arrow")
    assert 200 <= codes(sources).count("ok") < 300
    assert codes(sources)[-1] == "too_large"


def test_only_the_rows_of_the_bomb_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tables, "_BOMB_BYTES", 500_000)
    stream = io.BytesIO()
    table = pa.table({"image": structs([b"first", bytes(1_000_000), b"last"])})
    pq.write_table(table, stream, row_group_size=1, compression="zstd")
    assert codes(listed(stream.getvalue(), "parquet")) == ["ok", "too_large", "ok"]


@pytest.mark.slow
def test_a_bomb_takes_little_memory(tmp_path: Path, tiny: str) -> None:
    """120 MB shared by 16 rows, and 60 MB shared by 1,000, packed into 4 kB each."""
    program = (
        "import sys; from dinoclassify.cli import run; code = run(sys.argv[1:]);"  # getrusage counts the parent, too
        "print(code, open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    for megabytes, rows in ((120, 16), (60, 1000)):
        (tmp_path / "bomb.parquet").write_bytes(repeated(bytes(megabytes * 10**6), rows))
        assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
        command = ("predict", "bomb.parquet", "--column", "image", "-m", tiny, "-o", "rows.csv", "-j", "1")
        done = subprocess.run([sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, check=True)
        code, kilobytes = map(int, done.stdout.split())
        assert code == 3
        assert kilobytes < 1_000_000
        assert (tmp_path / "rows.csv").read_text().count("too_large") >= rows - 1
