"""Tables with a column of images, as Hugging Face datasets are stored."""

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dinoclassify.discovery.containers import base
from dinoclassify.discovery.containers.suffixes import is_table
from dinoclassify.discovery.containers.table import images as images_of
from dinoclassify.discovery.containers.table import tables_in
from dinoclassify.errors import UsageError
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source
from tests.helpers.tables import IMAGES, KINDS, SIGNATURE, codes, listed, structs, written


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "column",
    [
        structs(IMAGES),
        structs(IMAGES, pa.large_binary()),
        pa.array(IMAGES, pa.binary()),
        pa.array(IMAGES, pa.large_binary()),
        pa.array(IMAGES, pa.binary_view()),
    ],
)
def test_each_row_is_an_image_named_by_its_number(column: "pa.Array", kind: str) -> None:
    content = written({"label": list(range(len(IMAGES))), "image": column}, kind)
    assert listed(content, kind) == [
        Source(f"a.{kind}!{number}", encoded, (len(encoded), 456)) for number, encoded in enumerate(IMAGES)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_an_image_fail_as_vanished(kind: str) -> None:
    contents = [b"first", None, b"", b"last"]
    path_only = pa.array([{"bytes": None, "path": "x.png"}], structs([]).type)
    for column in (structs(contents), pa.array(contents, pa.binary())):
        sources = listed(written({"image": column}, kind), kind)
        assert codes(sources) == ["ok", "vanished", "vanished", "ok"]
        assert [source.path for source in sources] == [f"a.{kind}!{number}" for number in range(4)]
    (source,) = listed(written({"image": path_only}, kind), kind)
    assert source.content == Failure("vanished", "the row holds no image")


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_row_hides_the_bytes_below_it(kind: str) -> None:
    below = pa.array([b"seen", b"hidden"])
    column = pa.StructArray.from_arrays([below], ["bytes"], mask=pa.array([False, True]))
    assert codes(listed(written({"image": column}, kind), kind)) == ["ok", "vanished"]


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(base, "MOST_BYTES", 5)
    sources = listed(written({"image": structs([b"123456", b"12345"])}, kind), kind)
    assert codes(sources) == ["too_large", "ok"]
    assert sources[0].signature == (6, 456)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_rows_has_no_images(kind: str) -> None:
    assert listed(written({"image": structs([])}, kind), kind) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("photo", "has no column photo; choose one with --column: image, label, odd"),
        ("label", ": label holds no images but int64; choose one with --column: image, label, odd"),
        ("odd", ": odd holds no images but struct<text: string>; choose one with --column: image, label, odd"),
        ("image.bytes", "has no column image.bytes; choose one with --column: image, label, odd"),
    ],
)
def test_a_column_without_images_is_refused_with_the_choices(column: str, message: str, kind: str) -> None:
    content = written({"image": structs([b"x"]), "label": [1], "odd": [{"text": "x"}]}, kind)
    with pytest.raises(UsageError) as caught:
        listed(content, kind, column)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"a.{kind}")
    assert "\n" not in str(caught.value)


def test_columns_may_have_dots_in_their_names() -> None:
    content = written({"an.image": structs(IMAGES), "an": [1] * len(IMAGES)}, "parquet")
    assert [source.content for source in listed(content, "parquet", "an.image")] == IMAGES


@pytest.mark.parametrize("kind", ["stream.arrow", "file.arrow"])
def test_compressed_arrow_files_are_read(kind: str) -> None:
    table, stream = pa.table({"image": structs(IMAGES)}), io.BytesIO()
    new = pa.ipc.new_stream if kind.startswith("stream") else pa.ipc.new_file
    with new(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    assert [source.content for source in listed(stream.getvalue(), kind)] == IMAGES


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.count += len(content or b"")
        return content or b""


@contextmanager
def large_table(path: Path, kind: str) -> Iterator[Callable[[str], BinaryIO]]:
    """Opens a table of 400 images of 100 kB, in groups of 20, with something else that is as large."""
    contents = [random.Random(number).randbytes(100_000) for number in range(400)]
    path.write_bytes(written({"other": contents, "image": structs(contents)}, kind, rows=20))
    with Counted(str(path)) as file:
        yield lambda _: file


@pytest.mark.parametrize("kind", ["parquet", "file.arrow"])
def test_only_the_image_column_is_read_and_memory_stays_flat(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with large_table(path, kind) as open_file:
        before, most = pa.total_allocated_bytes(), 0
        for source in images_of(str(path), "image", open_file, SIGNATURE):
            assert len(source.content) == 100_000  # type: ignore[arg-type]  # bytes
            most = max(most, pa.total_allocated_bytes() - before)
        assert most < 10_000_000
        assert 40_000_000 < open_file("").count < 41_000_000  # type: ignore[attr-defined]  # a Counted


@pytest.mark.parametrize("kind", KINDS)
def test_images_arrive_while_the_table_is_still_being_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with large_table(path, kind) as open_file:
        assert next(images_of(str(path), "image", open_file, SIGNATURE)).path == f"{path}!0"
        assert open_file("").count < 8_000_000  # type: ignore[attr-defined]  # a Counted


def test_rows_before_the_cut_of_a_stream_are_read() -> None:
    content = written({"image": structs(IMAGES)}, "stream.arrow")
    sources = listed(content[: len(content) // 2], "stream.arrow")
    assert 10 < len(sources) < 50
    assert [source.content for source in sources[:-1]] == IMAGES[: len(sources) - 1]
    assert (sources[-1].path, sources[-1].signature) == ("a.stream.arrow", SIGNATURE)
    assert codes(sources[-1:]) == ["decode_error"]


def test_a_stream_cut_between_two_batches_is_truncated() -> None:
    content = written({"image": structs(IMAGES)}, "stream.arrow")
    sources = listed(content[:-8], "stream.arrow")
    assert [source.content for source in sources[:-1]] == IMAGES
    assert (sources[-1].path, *codes(sources[-1:])) == ("a.stream.arrow", "truncated")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 3, 20, 1000])
def test_a_truncated_table_gives_one_failed_row(kind: str, length: int) -> None:
    content = written({"image": structs(IMAGES)}, kind, rows=100)
    (source,) = listed(content[:length], kind)
    assert isinstance(source.content, Failure)
    assert (source.path, source.content.code) == (f"a.{kind}", "decode_error")
    assert source.content.message.startswith("the table is damaged or cut short: ")
    assert "\n" not in source.content.message


def test_rows_before_the_damage_in_parquet_are_read() -> None:
    stream = io.BytesIO()
    table = pa.table({"image": structs(IMAGES)})
    pq.write_table(table, stream, row_group_size=10, compression="none", use_dictionary=False)
    content = bytearray(stream.getvalue())
    at = content.index(IMAGES[45])
    content[at - 4 : at] = b"\xff" * 4  # its length
    sources = listed(bytes(content), "parquet")
    assert [source.content for source in sources[:-1]] == IMAGES[: len(sources) - 1]
    assert len(sources) == 46
    assert (sources[-1].path, *codes(sources[-1:])) == ("a.parquet", "decode_error")


def test_damaged_lengths_in_arrow_are_a_decode_error() -> None:
    content = written({"image": pa.array([b"a" * 100, b"b" * 100])}, "stream.arrow")
    lengths = b"".join(number.to_bytes(4, "little") for number in (0, 100, 200))
    assert content.count(lengths) == 1
    damaged = content.replace(lengths, lengths[:4] + (1 << 30).to_bytes(4, "little") + lengths[8:])
    assert codes(listed(damaged, "stream.arrow")) == ["decode_error"]


def test_damaged_counts_in_arrow_do_not_end_the_process() -> None:
    content = written({"image": structs([b"a" * 100] * 57)}, "stream.arrow", rows=57)
    count = (57).to_bytes(8, "little")
    assert count in content
    damaged = content.replace(count, (-57).to_bytes(8, "little", signed=True))
    assert codes(listed(damaged, "stream.arrow")) == ["decode_error"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_file_that_is_not_a_table_gives_one_failed_row(kind: str) -> None:
    assert codes(listed(b"\xff\xd8\xff\xe0" * 1000, kind)) == ["decode_error"]


def test_a_missing_table_has_vanished(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "a.parquet", "vanished"), (tmp_path, "unreadable")):
        (source,) = images_of(str(path), "image", io.FileIO, SIGNATURE)
        assert isinstance(source.content, Failure)
        assert (source.path, source.content.code) == (str(path), code)


def test_a_lost_connection_gives_a_failed_row() -> None:
    class Lost(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 15_000:
                raise TimeoutError("no answer")
            return super().read(size)

    content = written({"image": structs(IMAGES)}, "stream.arrow")
    sources = list(images_of("a.arrow", "image", lambda _: Lost(content), SIGNATURE))
    assert len(sources) > 10
    assert codes(sources)[-2:] == ["ok", "timeout"]


@pytest.mark.parametrize(
    ("path", "table"), [("a.parquet", True), ("A.ARROW", True), ("s3://b/a.parquet", True), ("a.csv", False)]
)
def test_tables_are_recognised_by_their_suffix(path: str, table: bool) -> None:
    assert is_table(path) == table


def test_tables_of_a_folder_are_sorted_by_name(tmp_path: Path) -> None:
    names = [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "train/data-00000-of-00001.arrow",
    ]
    others = [
        "train/cache-0123456789.arrow",
        "train/dataset_info.json",
        "train/.hidden.arrow",
        ".cache/x.parquet",
        "README.md",
    ]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train.parquet").mkdir()
    (tmp_path / "train.parquet" / "part-0.parquet").touch()
    assert tables_in(str(tmp_path)) == [
        str(tmp_path / name) for name in [*names[:3], names[3], "train.parquet/part-0.parquet"]
    ]


def test_an_unreadable_folder_is_listed_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def deny(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert tables_in(str(tmp_path)) == [str(tmp_path / "a.parquet"), str(tmp_path / "closed")]
