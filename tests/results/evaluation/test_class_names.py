"""Classes by all their names."""

import json
from pathlib import Path

import pandas as pd
import pytest

from dinoclassify import UsageError
from dinoclassify.discovery.labelled import LabelTable, read_table
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.labels.matching import is_number, match_classes
from tests.helpers.invoke import Invoke


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tench, Tinca tinca", 0),
        ("TENCH, TINCA_TINCA", 0),
        ("tench", 0),
        ("n01440764", 0),
        ("0", 0),
        ("great_white_shark", 2),
        ("n02012849", 134),
        ("517", 517),
        ("Egyptian_cat", 285),
    ],
)
def test_classes_are_known_by_all_their_names(name: str, index: int) -> None:
    assert match_classes([name], imagenet_labels(), "x") == {name: index}


def test_ambiguous_and_unknown_class_names_are_refused() -> None:
    with pytest.raises(UsageError, match="crane is the name of classes 134 and 517 of x: write an index, or a WordNet"):
        match_classes(["crane"], imagenet_labels(), "x")
    with pytest.raises(UsageError, match="unicorn, 1000 are not among the 1,000 classes of x"):
        match_classes(["tench", "unicorn", "1000"], imagenet_labels(), "x")
    with pytest.raises(UsageError, match="n01440764 is not among the 2 classes of x"):
        match_classes(["n01440764"], ["cat", "dog"], "x")
    assert match_classes(["dog", "bird"], ["Dog", "dog"], "x", all_known=False) == {"dog": 1}
    assert match_classes(["cat"], ["Cat, cat"], "x") == {"cat": 0}
    with pytest.raises(UsageError, match="0 is not among the 2 classes of x"):  # labels are numbers here
        match_classes(["0", "1"], ["1", "2"], "x")


def test_class_names_that_are_numbers_are_not_indices(here: Path, invoke: Invoke) -> None:
    def row(number: int, label: str, index: int) -> str:
        return f"{number}.jpg,ok,{label},0.9,{index},,,1,1"

    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    guesses = [("1", 0), ("3", 2), ("3", 2), ("4", 3), ("5", 4)]  # never 2
    Path("labels.csv").write_text("\n".join([header, *(row(n, *guess) for n, guess in enumerate(guesses)), ""]))
    Path("t.csv").write_text("path,label\n0.jpg,1\n1.jpg,2\n2.jpg,3\n3.jpg,4\n4.jpg,2\n")
    code, out, err = invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")
    assert code == 0
    assert "never predicted in labels.csv: 2" in err
    assert json.loads(out)["top1"]["right"] == 3
    Path("cats.csv").write_text("\n".join([header, row(0, "cat", 0), row(1, "dog", 1), ""]))
    Path("t.csv").write_text("path,label\n0.jpg,0\n1.jpg,7\n")
    figures = json.loads(invoke("evaluate", "--labels-from", "t.csv", "--predictions", "cats.csv", "--json")[1])
    assert [(one["index"], one["label"]) for one in figures["classes"]] == [
        (0, "cat"),
        (1, "dog"),
        (7, "7"),
    ]


def test_first_word_of_a_label_is_not_another_class(here: Path, invoke: Invoke) -> None:
    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    Path("labels.csv").write_text(f'{header}\n0.jpg,ok,"cat, wild",0.9,1,,,1,1\n')
    Path("t.csv").write_text("path,label\n0.jpg,cat\n")
    out = invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")[1]
    assert json.loads(out)["top1"]["right"] == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("1", True), ("-1", True), ("1.0", True), ("1e3", True), ("nan", False), ("infinity", False), ("½", False)],
)
def test_numbers_are_told_from_names(name: str, expected: bool) -> None:
    assert is_number(name) == expected


@pytest.mark.parametrize("labels", [["1.0", "2.0"], ["-1", "-2"], ["1e3", "2e3"]])
def test_no_index_is_a_class_where_labels_are_numbers(labels: list[str]) -> None:
    assert match_classes(labels, labels, "x") == dict(zip(labels, range(2), strict=True))
    with pytest.raises(UsageError, match="0 is not among the 2 classes of x"):
        match_classes(["0"], labels, "x")


def test_whole_numbers_match_with_and_without_a_point() -> None:
    assert match_classes(["1", "2"], ["0.0", "1.0", "2.0"], "x") == {"1": 1, "2": 2}
    assert match_classes(["1"], ["1.0", "1"], "x") == {"1": 1}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_integers_with_a_missing_one_are_read_as_integers(here: Path, suffix: str) -> None:
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [1, None, -2]})  # a column of floats
    getattr(frame, f"to_{suffix}")(f"t.{suffix}", index=False)
    images = read_table(LabelTable(f"t.{suffix}"))
    assert [(image.path, image.labels) for image in images] == [("a.jpg", ("1",)), ("c.jpg", ("-2",))]


def test_other_numbers_stay_as_they_are_written(here: Path) -> None:
    Path("t.csv").write_text("path,label\na.jpg,1.0\nb.jpg,2.5\nc.jpg,\n")
    assert [image.labels for image in read_table(LabelTable("t.csv"))] == [("1.0",), ("2.5",)]


def test_rows_and_truths_with_a_point_are_compared(here: Path, invoke: Invoke) -> None:
    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    guesses = [("1.0", 0), ("2.0", 1), ("2.0", 1)]
    rows = [f"{n}.jpg,ok,{label},0.9,{index},,,1,1" for n, (label, index) in enumerate(guesses)]
    Path("labels.csv").write_text("\n".join([header, *rows, ""]))
    Path("t.csv").write_text("path,label\n0.jpg,1.0\n1.jpg,2.0\n2.jpg,1.0\n")
    figures = json.loads(invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")[1])
    assert figures["top1"]["right"] == 2
    assert [(one["label"], one["index"]) for one in figures["classes"]] == [("1.0", 0), ("2.0", 1)]
