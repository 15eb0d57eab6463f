"""Files of rows: complete or not there."""

import gzip
import json
import os
import sqlite3
import stat
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.results.reader import read_meta, read_predictions
from dinoclassify.storage.atomic import is_regular, replacing
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import FEATURE_FORMATS, FORMATS, choose_format, open_format
from dinoclassify.writers.formats.columns import columns, record
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.stream import check_output, stream_rows

FORMAT_NAMES = [made.name for made in FORMATS]
ROWS = [
    Prediction("a,b.jpg", "ok", (Label("tench, Tinca tinca", 0, 0.75), Label("x", 1, 0.2)), size=1, mtime_ns=2**60),
    Prediction("caf\udce9.jpg", "failed", failure=Failure("truncated", "image file is truncated")),
]


def write(path: Path, format_name: str, rows: list[Prediction] = ROWS) -> None:
    if not is_regular(str(path)):
        stream_rows(str(path), open_format(format_name, 2), rows)
        return
    output = OutputFile(str(path), open_format(format_name, 2), batch_size=8)
    with closing(output.journal):
        output.journal.begin({})
        for row in rows:
            output.journal.append(row)
        output.publish(None, {"made_with": {}, "seconds": 1})


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_the_file_appears_at_the_end_and_whole(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    output = OutputFile(str(path), open_format(format_name, 2), batch_size=8)
    with closing(output.journal):
        output.journal.begin({})
        output.journal.append(ROWS[0])
        assert path.read_text() == "old"
        assert (tmp_path / "out.partial").read_bytes().endswith(b"\n")
        output.journal.append(ROWS[1])
        output.publish(None, {"seconds": 1})
    assert path.read_bytes() != b"old"
    assert sorted(os.listdir(tmp_path)) == ["out", "out.meta.json"]
    assert json.loads((tmp_path / "out.meta.json").read_text())["seconds"] == 1


def test_parquet_is_typed(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", "parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(columns(2))
    assert {str(kind) for kind in table.schema.types} == {"string", "double", "int64"}
    assert table.to_pylist() == [record(row, 2) for row in ROWS]


def test_parquet_writes_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.writers.formats.parquet.ROW_GROUP", 2)
    write(tmp_path / "out", "parquet", [ROWS[0]] * 5)
    metadata = pq.read_metadata(tmp_path / "out")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2, 2, 1]


def test_sqlite_is_typed(tmp_path: Path) -> None:
    write(tmp_path / "out.db", "sqlite")
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM predictions")]
        types = connection.execute("SELECT typeof(score), typeof([index]), typeof(label) FROM predictions").fetchone()
    assert rows == [record(row, 2) for row in ROWS]
    assert tuple(types) == ("real", "integer", "text")


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_rows_that_nobody_asks_for_may_go_in_another_thread(name: str, tmp_path: Path) -> None:
    """Garbage is collected in any thread."""
    write(tmp_path / "out", name)
    found = read_predictions(str(tmp_path / "out"))
    assert next(found) == ROWS[0]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cast("Generator[Prediction]", found).close).result()


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", "jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok", "failed"]


@pytest.mark.parametrize(
    ("output", "name", "expected"),
    [
        (None, None, "csv"),
        ("x.jsonl", None, "jsonl"),
        ("x.NDJSON", None, "jsonl"),
        ("x.parquet", None, "parquet"),
        ("x.db", None, "sqlite"),
        ("x.csv.gz", None, "csv.gz"),
        ("x.NDJSON.GZ", None, "jsonl.gz"),
        ("x.tsv", None, "tsv"),
        ("labels", None, "csv"),
        ("/dev/null", None, "csv"),
        ("/dev/fd/1.0", None, "csv"),
        ("x.txt", "csv", "csv"),
        ("x.csv", "jsonl", "jsonl"),
        (None, "parquet", "parquet"),
    ],
)
def test_formats_are_chosen(output: str | None, name: str | None, expected: str) -> None:
    assert choose_format(output, name).name == expected


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("labels.json", r"labels.json: unknown suffix .json, did you mean .jsonl\? Choose .csv .tsv .jsonl "),
        ("x.parqet", r"did you mean .parquet\? Choose .csv .*, or name the format with --format"),
        ("x.PARQET", "did you mean .parquet"),
        ("x.xlsx", r"x.xlsx: unknown suffix .xlsx: choose .csv "),
        ("s3://bucket/x.txt", "unknown suffix .txt: choose .csv "),
        ("x.gz", "unknown suffix .gz: choose .csv "),
        ("x.npz", "unknown suffix .npz: choose .csv "),
    ],
)
def test_an_unknown_suffix_is_not_taken_for_csv(output: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose_format(output, None)


def test_a_named_pipe_needs_no_suffix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.fifo")
    assert choose_format(str(tmp_path / "rows.fifo"), None).name == "csv"


def test_features_have_suffixes_of_their_own() -> None:
    assert choose_format("x.npz", None, FEATURE_FORMATS).name == "npz"
    with pytest.raises(UsageError, match=r"x.csv: unknown suffix .csv: choose .parquet .npz .npy, or name the format"):
        choose_format("x.csv", None, FEATURE_FORMATS)


@pytest.mark.parametrize("made", ["csv", "tsv", "jsonl"])
def test_compressed_lines_are_the_same_lines(tmp_path: Path, made: str) -> None:
    write(tmp_path / "plain", made)
    write(tmp_path / "one.gz", f"{made}.gz")
    write(tmp_path / "other.gz", f"{made}.gz")
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()) == (tmp_path / "plain").read_bytes()
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes(), "no name and no time in it"


def test_tabs_separate(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv", "tsv", [replace(ROWS[0], path='a\tb,"c"'), ROWS[1]])
    lines = (tmp_path / "out.tsv").read_text().split("\n")
    assert lines[0] == "\t".join(columns(2))
    assert lines[1].startswith('"a\tb,""c"""\tok\ttench, Tinca tinca\t0.75\t0\tx\t')
    assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["path"].tolist() == ['a\tb,"c"', r"caf\xe9.jpg"]


@pytest.mark.parametrize("made", FORMAT_NAMES)
def test_every_format_is_read_again_by_its_content(tmp_path: Path, made: str) -> None:
    write(tmp_path / "rows", made)
    found = list(read_predictions(str(tmp_path / "rows")))
    assert [record(row, 2) for row in found] == [record(row, 2) for row in ROWS]


@pytest.mark.parametrize("made", ["csv.gz", "jsonl.gz"])
@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 30)])
def test_a_compressed_file_that_is_cut_off_is_said(tmp_path: Path, made: str, damage: slice) -> None:
    path = tmp_path / "rows"
    write(path, made)
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(UsageError, match="is not what predict writes"):
        list(read_predictions(str(path)))
    table = open_format(made, 2).table
    assert table is not None
    with pytest.raises(ValueError, match="ended before"):
        list(table.read(str(path)))


@pytest.mark.parametrize("made", ["parquet", "sqlite"])
def test_a_table_carries_the_metadata_of_the_run(tmp_path: Path, made: str) -> None:
    path = tmp_path / "rows"
    write(path, made)
    said = json.loads((tmp_path / "rows.meta.json").read_text())
    assert said["seconds"] == 1
    assert len(said.pop("published")) == 2, "the size and time of the file, which it cannot say itself"
    (tmp_path / "rows.meta.json").unlink()
    assert read_meta(str(path)) == said
    assert OutputFile(str(path), open_format(made, 2), batch_size=8).finished_meta() == said, "--resume goes on with it"
    stream_rows(str(tmp_path / "plain"), open_format("parquet", 2), ROWS)
    assert read_meta(str(tmp_path / "plain")) == {}


def test_what_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        check_output(str(tmp_path / "no" / "out.csv"), choose_format(None, "csv"))
    with pytest.raises(OutputError, match="it is a folder"):
        check_output(str(tmp_path), choose_format(None, "csv"))
    with pytest.raises(
        UsageError, match=r"--format xml: choose csv, tsv, jsonl, csv.gz, tsv.gz, jsonl.gz, parquet, sqlite"
    ):
        choose_format(None, "xml")
    with pytest.raises(UsageError, match="sqlite needs a regular file"):
        check_output("/dev/null", choose_format(None, "sqlite"))
    with pytest.raises(UsageError, match="sqlite needs a regular file"):
        check_output(None, choose_format(None, "sqlite"))


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices can be made by root alone")
    write(device, "csv")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert os.listdir(tmp_path) == ["null"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="/dev/shm is not there")
def test_a_file_in_dev_shm_is_a_file_like_any_other() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(2):
            write(Path(folder) / "out.csv", "csv")
        assert (Path(folder) / "out.csv").read_text().count("path,status") == 1
        assert sorted(os.listdir(folder)) == ["out.csv", "out.csv.meta.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write(tmp_path / "link.csv", "csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,")


@pytest.mark.parametrize("format_name", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_said(format_name: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is not there")
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"):
        write(Path("/dev/full"), format_name)


def test_more_columns_than_sqlite_has_are_said() -> None:
    assert open_format("sqlite", 664).table is not None
    with pytest.raises(UsageError, match="--top-k 665 is more than SQLite has columns for: use Parquet or JSON Lines"):
        open_format("sqlite", 665)


def test_an_error_of_the_run_is_not_taken_for_one_of_the_output() -> None:
    def broken() -> Iterator[Prediction]:
        yield ROWS[0]
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        stream_rows(os.devnull, open_format("csv", 2), broken())


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with suppress(ZeroDivisionError), replacing(str(tmp_path / "out")) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_partial_is_cut_back_to_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the rest is batched, and rounded, as it would have been."""
    monkeypatch.chdir(tmp_path)
    predictions = [Prediction(f"{number}.jpg", "ok", (Label("x", 0, 0.5),)) for number in range(6)]
    output = OutputFile("out.csv", open_format("csv", 1), batch_size=4)
    with closing(output.journal):
        output.journal.begin({})
        for prediction in predictions:
            output.journal.append(prediction)
    output = OutputFile("out.csv", open_format("csv", 1), batch_size=4)
    with closing(output.journal):
        output.journal.resume()
        assert list(output.journal.rows()) == predictions[:4]
    assert Path("out.csv.partial").read_bytes().count(b"\n") == 5
