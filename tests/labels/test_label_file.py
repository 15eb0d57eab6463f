"""Files of class names."""

import json
from pathlib import Path

import pytest

from dinoclassify.errors import UsageError
from dinoclassify.labels.label_file import read_labels
from dinoclassify.models import checkpoint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\ndog\n"),
        ("a.txt", "\ufeffcat\r\ndog"),
        ("a.csv", "label\ncat\ndog\n"),
        ("a.csv", "index,label\r\n1,dog\r\n0,cat\r\n\r\n"),
        ("a.json", '["cat", "dog"]'),
        ("a.json", '{"1": "dog", "0": "cat"}'),
    ],
)
def test_labels_are_ordered_by_index(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert read_labels(str(tmp_path / name)).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "cat\n\ndog\n", "a.txt, line 2: the name of class 1 is empty"),
        ("a.txt", "cat\n \n", "a.txt, line 2: the name of class 1 is empty"),
        ("a.csv", "label\ncat\n\ndog\n", "a.csv, line 3: the name of class 1 is empty"),
        ("a.csv", 'index,label\n0,cat\n2,""\n', "a.csv, line 3: the name of class 2 is empty"),
        ("a.csv", "index,label\n0,cat\n0,dog\n", "a.csv, line 3: class 0 has two names"),
        ("a.json", '["cat", ""]', "a.json, index 1: the name of class 1 is empty"),
        ("a.json", '["cat", null]', "a.json, index 1: the name of class 1 is empty"),
        ("a.json", '{"0": "cat", "1": ""}', "a.json, index 1: the name of class 1 is empty"),
        ("a.json", '["\\ud800"]', "cannot read the labels"),
        ("a.csv", "", "cannot read the labels"),
        ("a.csv", 'label\n"cat', "cannot read the labels"),
        ("a.csv", "index,label\n1,cat\n", "cannot read the labels"),
    ],
)
def test_labels_that_rows_cannot_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    with pytest.raises(UsageError, match=said):
        read_labels(name)


def test_unnamed_classes_get_the_name_transformers_gives(tmp_path: Path, tiny: str) -> None:
    config = json.loads(Path(tiny, "config.json").read_text())
    config["id2label"]["2"] = ""
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert checkpoint.read_labels(str(tmp_path), "m")[0][2] == "LABEL_2"
