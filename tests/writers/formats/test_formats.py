"""The formats of rows: how they are chosen, and what is in their files."""

import gzip
import json
import os
import sqlite3
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dinoclassify.errors import UsageError
from dinoclassify.results.reader import read_predictions
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats import FEATURE_FORMATS, choose_format, open_format
from dinoclassify.writers.formats.columns import columns, record
from tests.helpers.prediction_files import FORMAT_NAMES, ROWS, write_rows


def test_parquet_columns_have_types(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.parquet", "parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(columns(2))
    assert {str(kind) for kind in table.schema.types} == {"string", "double", "int64"}
    assert table.to_pylist() == [record(row, 2) for row in ROWS]


def test_parquet_writes_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.writers.formats.parquet.ROW_GROUP", 2)
    write_rows(tmp_path / "out", "parquet", [ROWS[0]] * 5)
    metadata = pq.read_metadata(tmp_path / "out")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2, 2, 1]


def test_sqlite_columns_have_types(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.db", "sqlite")
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM predictions")]
        types = connection.execute("SELECT typeof(score), typeof([index]), typeof(label) FROM predictions").fetchone()
    assert rows == [record(row, 2) for row in ROWS]
    assert tuple(types) == ("real", "integer", "text")


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_an_unfinished_read_may_be_closed_by_another_thread(name: str, tmp_path: Path) -> None:
    """The garbage collector may run in any thread."""
    write_rows(tmp_path / "out", name)
    found = read_predictions(str(tmp_path / "out"))
    assert next(found) == ROWS[0]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cast("Generator[Prediction]", found).close).result()


def test_json_lines_are_one_object_for_each_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.jsonl", "jsonl")
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
def test_the_format_follows_the_suffix_or_the_option(output: str | None, name: str | None, expected: str) -> None:
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
def test_an_unknown_suffix_is_refused_with_the_nearest_known_one(output: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose_format(output, None)


def test_a_named_pipe_needs_no_suffix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.fifo")
    assert choose_format(str(tmp_path / "rows.fifo"), None).name == "csv"


def test_features_have_other_suffixes_than_predictions() -> None:
    assert choose_format("x.npz", None, FEATURE_FORMATS).name == "npz"
    with pytest.raises(UsageError, match=r"x.csv: unknown suffix .csv: choose .parquet .npz .npy, or name the format"):
        choose_format("x.csv", None, FEATURE_FORMATS)


@pytest.mark.parametrize("made", ["csv", "tsv", "jsonl"])
def test_compressed_files_have_the_same_lines_and_bytes_every_time(tmp_path: Path, made: str) -> None:
    write_rows(tmp_path / "plain", made)
    write_rows(tmp_path / "one.gz", f"{made}.gz")
    write_rows(tmp_path / "other.gz", f"{made}.gz")
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()) == (tmp_path / "plain").read_bytes()
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes(), "no name and no time in it"


def test_tsv_quotes_tabs_in_values(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.tsv", "tsv", [replace(ROWS[0], path='a\tb,"c"'), ROWS[1]])
    lines = (tmp_path / "out.tsv").read_text().split("\n")
    assert lines[0] == "\t".join(columns(2))
    assert lines[1].startswith('"a\tb,""c"""\tok\ttench, Tinca tinca\t0.75\t0\tx\t')
    assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["path"].tolist() == ['a\tb,"c"', r"caf\xe9.jpg"]


@pytest.mark.parametrize("made", FORMAT_NAMES)
def test_every_format_is_recognized_by_its_content(tmp_path: Path, made: str) -> None:
    write_rows(tmp_path / "rows", made)
    found = list(read_predictions(str(tmp_path / "rows")))
    assert [record(row, 2) for row in found] == [record(row, 2) for row in ROWS]


@pytest.mark.parametrize("made", ["csv.gz", "jsonl.gz"])
@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 30)])
def test_a_truncated_compressed_file_is_an_error(tmp_path: Path, made: str, damage: slice) -> None:
    path = tmp_path / "rows"
    write_rows(path, made)
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(UsageError, match="is not what predict writes"):
        list(read_predictions(str(path)))
    table = open_format(made, 2).table
    assert table is not None
    with pytest.raises(ValueError, match="ended before"):
        list(table.read(str(path)))


def test_more_columns_than_sqlite_allows_are_refused() -> None:
    assert open_format("sqlite", 664).table is not None
    with pytest.raises(UsageError, match="--top-k 665 is more than SQLite has columns for: use Parquet or JSON Lines"):
        open_format("sqlite", 665)
