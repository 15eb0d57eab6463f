"""`sort --layout` and `--groups`: the folders and names that labels become."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.cli import run
from dinoclassify.errors import UsageError
from dinoclassify.results.sort.layout import folder_namer, parse_layout, safe_name
from dinoclassify.types.prediction import Label
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import sort, undo


def test_layout_fills_in_every_field(here: Path) -> None:
    some = row_of(image("album/x.tar.jpg"), "dog", 0.123456, 1, Label("cat", 2, 0.05))
    layout = "{status}/{parent}-{stem}/{label} {score}{suffix}"
    assert sort([some], "copy", layout)[0].target == "ok/album-x.tar/dog 0.1235.jpg"
    targets = [outcome.target for outcome in sort([some], "symlink", "{rank}/{label}/{name}")]
    assert targets == ["1/dog/x.tar.jpg", "2/cat/x.tar.jpg"]
    assert undo() == [None] * 3


@pytest.mark.parametrize(
    "layout", ["", "/{name}", "../{name}", "{label}/../{name}", "{nope}", "{label!r}", "{score:.2f}", "{", "{label}/"]
)
def test_invalid_layouts_are_refused(layout: str, here: Path) -> None:
    with pytest.raises(UsageError, match="--layout"):
        parse_layout(layout)


def test_group_score_is_the_sum_of_its_labels(here: Path) -> None:
    cats = (Label("tabby, tabby cat", 281, 0.3), Label("tiger cat", 282, 0.25))
    write_rows("labels.csv", [row_of(image("x.jpg"), "tench, Tinca tinca", 0.4, 0, *cats)])
    command = ["sort", "labels.csv", "--into", "sorted", "--groups", "everyday", "--min-score", "0.5", "--layout"]
    assert run([*command, "{group}/{label}/{score} {name}"]) == 0
    assert Path("sorted/cat/tabby/0.5500 x.jpg").exists()


def test_group_score_of_a_multi_label_row_is_that_of_its_best_label(here: Path) -> None:
    cats = (Label("tabby, tabby cat", 281, 0.8), Label("tiger cat", 282, 0.7))
    write_rows("labels.csv", [row_of(image("x.jpg"), "tench, Tinca tinca", 0.9, 0, *cats)])
    Path("labels.csv.meta.json").write_text('{"model": {"multi_label": true}}')
    command = ["sort", "labels.csv", "--into", "sorted", "--groups", "everyday", "--layout", "{rank}/{group} {score}"]
    assert run(command) == 0
    assert sorted(str(path) for path in Path("sorted").glob("*/*")) == ["sorted/1/fish 0.9000", "sorted/2/cat 0.8000"]


def test_groups_become_folders(here: Path) -> None:
    rows = [row_of(image("a.jpg"), "tench, Tinca tinca", 0.9, 0), row_of(image("b.jpg"), "tabby, tabby cat", 0.9, 281)]
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--groups", "everyday"]) == 0
    assert Path("sorted/fish/a.jpg").exists()
    assert (
        run(["sort", "labels.csv", "--into", "both", "--groups", "everyday", "--layout", "{group}/{label}/{name}"]) == 0
    )
    assert Path("both/cat/tabby/b.jpg").exists()


def test_the_images_of_one_group_go_into_one_folder(here: Path) -> None:
    rows = [row_of(image("a.jpg"), "tench, Tinca tinca", 0.9, 0), row_of(image("b.jpg"), "tabby, tabby cat", 0.9, 281)]
    write_rows("labels.csv", rows)
    command = ["sort", "labels.csv", "--into", "cats", "--groups", "everyday", "--only", "cat", "--layout", "{name}"]
    assert run(command) == 0
    assert [path.name for path in Path("cats").iterdir() if path.suffix == ".jpg"] == ["b.jpg"]


def test_groups_from_the_environment_apply_only_to_layouts_with_groups(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"), "tench, Tinca tinca", 0.9, 0)])
    monkeypatch.setenv("DINOCLASSIFY_SORT_GROUPS", "everyday")
    assert run(["sort", "labels.csv", "--into", "one"]) == 0
    assert run(["sort", "labels.csv", "--into", "two", "--layout", "{label}/{name}"]) == 0
    assert Path("one/fish/x.jpg").exists()
    assert Path("two/tench/x.jpg").exists()


def test_folder_is_the_first_synonym_and_equal_class_names_get_separate_folders() -> None:
    name = folder_namer()
    assert name("tench, Tinca tinca", 0) == "tench"
    assert [name("crane", 517), name("crane", 134), name("crane", 517)] == ["crane-517", "crane", "crane-517"]
    assert [name("red, round", 5), name("red, square", 6), name("RED, ROUND", 7)] == [
        "red_round",
        "red_square",
        "RED_ROUND-7",
    ]


@given(st.text(max_size=300))
def test_every_label_becomes_a_safe_folder_name(label: str) -> None:
    name = safe_name(label)
    assert 0 < len(os.fsencode(name)) <= 255
    assert not set(name) & set('<>:"/\\|?*,\0')
    assert name.isprintable()
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [("a/b", "a_b"), ("..", "_"), ("CON", "CON_"), ("nul.txt", "nul_.txt"), ("\x1b[31m", "_[31m"), ("", "_")],
)
def test_labels_that_are_not_valid_file_names(label: str, name: str) -> None:
    assert safe_name(label) == name
