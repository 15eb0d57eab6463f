"""Rows survive the way through a file, whatever the names in them: through pandas, jq and strict JSON."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats.base import Lines
from dinoclassify.writers.formats.columns import columns, json_object, record
from dinoclassify.writers.formats.csv import CSVLines, TSVLines
from dinoclassify.writers.formats.excel_csv import ExcelLines
from dinoclassify.writers.formats.jsonl import JSONLines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NASTY = st.sampled_from(
    ["NA", "null", "a,b", 'q"uote', "new\nline", "cr\r", "\r\n", " lead", "tail ", "=1+1", "-rf.jpg", "[bold]x",
     "\u2028", "é", "e\u0301", "\ufeffbom", "\x1b[31mred", "007", "1e5", "True", "\t", "'", "\\xff",
     "x;=1+1", ";;+", "\t\t-1", "a;'b", 'c;"=1', "\uff1d1", ";'", "\n@"]
)  # fmt: skip
NAMES = TEXT | NASTY
LABELS = st.builds(Label, NAMES, st.integers(0, 21_000), st.floats(0, 1))
ANSWERED = st.builds(
    Prediction,
    path=NAMES,
    status=st.sampled_from(["ok", "uncertain"]),
    top=st.lists(LABELS, min_size=3, max_size=3).map(tuple),
    size=st.integers(0, 2**53),
    mtime_ns=st.integers(-(2**62), 2**62),
)
FAILED = st.builds(
    Prediction, path=NAMES, status=st.just("failed"), failure=st.builds(Failure, st.just("truncated"), NAMES)
)
PREDICTIONS = st.lists(ANSWERED | FAILED, min_size=1, max_size=8)


def as_csv(predictions: list[Prediction], top_k: int) -> bytes:
    lines = CSVLines(top_k)
    return lines.header() + b"".join(map(lines.line, predictions))


def as_jsonl(predictions: list[Prediction], top_k: int) -> bytes:
    return b"".join(map(JSONLines(top_k).line, predictions))


@pytest.mark.parametrize("made", [CSVLines, TSVLines, ExcelLines, JSONLines])
@given(predictions=PREDICTIONS, top_k=st.integers(1, 3), cut=st.integers(0, 40))
def test_rows_are_read_as_they_were_written(
    made: Callable[[int], Lines[Prediction]], predictions: list[Prediction], top_k: int, cut: int
) -> None:
    """All of them, and of a file that was cut off all that are complete."""
    form = made(top_k)
    written = list(map(form.line, predictions))
    content = form.header() + b"".join(written)
    cut = min(cut, len(written[-1]) - 1)
    lines = list(form.lines(io.BytesIO(content[: len(content) - cut])))[bool(form.header()) :]
    assert lines == written[: len(written) - (cut > 0)]
    assert [form.line(form.parse(line)) for line in lines] == lines


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@given(predictions=PREDICTIONS)
def test_no_cell_is_a_spreadsheet_formula(separator: str, predictions: list[Prediction]) -> None:
    """Whatever it is told that separates fields, and whether or not it takes quotes for such within a cell."""
    lines = ExcelLines(3)
    text = b"".join(map(lines.line, predictions)).decode()
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        if (separator, quoting) != (",", csv.QUOTE_NONE):
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
            assert not [cell for row in rows for cell in row if re.match(r'"*[=+\-@＝＋－＠](?!\d+$)', cell)]


@given(PREDICTIONS)
def test_csv_survives_pandas(predictions: list[Prediction]) -> None:
    table = pd.read_csv(io.BytesIO(as_csv(predictions, 3)), dtype=str, keep_default_na=False)
    assert list(table) == list(columns(3))
    expected = [["" if v is None else str(v) for v in record(one, 3).values()] for one in predictions]
    assert table.to_numpy().tolist() == expected
    assert [row["path"] for _, row in table.iterrows()] == [one.path for one in predictions]


@given(PREDICTIONS)
def test_scores_in_csv_are_numbers(predictions: list[Prediction]) -> None:
    table = pd.read_csv(io.BytesIO(as_csv(predictions, 1)), keep_default_na=False, na_values={"score": "", "size": ""})
    for score, prediction in zip(table["score"], predictions, strict=True):
        assert pd.isna(score) if prediction.score is None else score == pytest.approx(prediction.score, rel=1e-5)


@given(PREDICTIONS)
def test_jsonl_is_strict_and_complete(predictions: list[Prediction]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = as_jsonl(predictions, 3).decode("utf-8").split("\n")
    assert lines.pop() == ""
    objects = [json.loads(line, parse_constant=refuse) for line in lines]
    assert objects == [dict(json_object(prediction, 3)) for prediction in predictions]
    assert [item["path"] for item in objects] == [prediction.path for prediction in predictions]


@given(PREDICTIONS)
def test_jsonl_survives_pandas(predictions: list[Prediction]) -> None:
    table = pd.read_json(io.BytesIO(as_jsonl(predictions, 1)), lines=True, dtype=False)
    assert table["path"].tolist() == [prediction.path for prediction in predictions]
    labels = [None if pd.isna(label) else label for label in table["label"]]
    assert labels == [prediction.label for prediction in predictions]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@settings(max_examples=25)
@given(PREDICTIONS)
def test_jsonl_survives_jq(predictions: list[Prediction]) -> None:
    done = subprocess.run(
        ["jq", "-e", "-c", "[.path, .label, .error]"], input=as_jsonl(predictions, 1), capture_output=True, check=True
    )
    seen = [json.loads(line) for line in done.stdout.decode().strip("\n").split("\n")]
    assert seen == [[p.path, p.label, p.failure.message if p.failure else None] for p in predictions]


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_paths_that_are_not_utf8_are_exact_in_json(name: bytes) -> None:
    path = os.fsdecode(name)
    row = json.loads(as_jsonl([Prediction(path, "ok", (Label("x", 0, 1.0),))], 1))
    assert os.fsencode(row["path"]) == name if "path_b64" not in row else base64.b64decode(row["path_b64"]) == name
    as_csv([Prediction(path, "ok")], 1).decode("utf-8")


def test_a_path_that_is_not_utf8_shows_its_bytes() -> None:
    row = json_object(Prediction("caf\udce9.jpg", "ok"), 1)
    assert (row["path"], row["path_b64"]) == ("caf\\xe9.jpg", "Y2Fm6S5qcGc=")
    assert "path_b64" not in json_object(Prediction("café.jpg", "ok"), 1)


def test_columns_are_as_documented() -> None:
    assert list(columns(1)) == ["path", "status", "label", "score", "index", "error_code", "error", "size", "mtime_ns"]
    middle = ["label", "score", "index", "label_2", "score_2", "index_2", "label_3", "score_3", "index_3"]
    assert list(columns(3))[2:11] == middle


def test_scores_have_six_significant_digits() -> None:
    answered = Prediction("x", "ok", (Label("a", 1, 0.123456789), Label("b", 2, 1.23456789e-5)))
    assert record(answered, 2)["score"] == 0.123457
    assert record(answered, 2)["score_2"] == 1.23457e-05


def test_json_lists_more_ranks_under_top() -> None:
    answered = Prediction("x", "ok", (Label("a", 1, 0.5), Label("b", 2, 0.25)), size=10, mtime_ns=20)
    flat = {"path": "x", "status": "ok", "label": "a", "score": 0.5, "index": 1}
    rest = {"error_code": None, "error": None, "size": 10, "mtime_ns": 20}
    top = [{"label": "a", "score": 0.5, "index": 1}, {"label": "b", "score": 0.25, "index": 2}]
    assert json_object(answered, 1) == flat | rest
    assert json_object(answered, 2) == flat | rest | {"top": top}
    failed = Prediction("x", "failed", failure=Failure("vanished", "no such file"))
    nothing = dict.fromkeys(["label", "score", "index", "size", "mtime_ns", "top"])
    assert json_object(failed, 2) == nothing | {
        "path": "x",
        "status": "failed",
        "error_code": "vanished",
        "error": "no such file",
    }


def test_csv_is_written_byte_for_byte_as_documented() -> None:
    predictions = [
        Prediction("a.jpg", "ok", (Label("tench, Tinca tinca", 0, 0.9), Label('"x"', 7, 0.05)), size=1, mtime_ns=2),
        Prediction("b\n.jpg", "failed", failure=Failure("not_image", "the file is empty"), size=0, mtime_ns=3),
    ]
    assert as_csv(predictions, 2).decode() == (
        "path,status,label,score,index,label_2,score_2,index_2,error_code,error,size,mtime_ns\n"
        'a.jpg,ok,"tench, Tinca tinca",0.9,0,"""x""",0.05,7,,,1,2\n'
        '"b\n.jpg",failed,,,,,,,not_image,the file is empty,0,3\n'
    )


def test_names_of_real_files_survive(tmp_path: Path) -> None:
    names = [b"bad\xff\xfe.jpg", b"new\nline", b"cr\r", b"tab\t", b"\x1b[31m", b"=1+1.jpg", b"NA", b" x ", b"e\xcc\x81"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).touch()
    rows = [json.loads(as_jsonl([Prediction(path, "ok")], 1)) for path in sorted(os.listdir(tmp_path))]
    back = [base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"].encode() for row in rows]
    assert sorted(back) == sorted(names)
