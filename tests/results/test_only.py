"""`--only`: rows of some labels or groups."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.types.prediction import Label
from dinoclassify.writers.formats import open_format
from tests.conftest import Cli
from tests.helpers.invoke import Invoke
from tests.helpers.rows import row_of, write_rows


def labelled(*labels: tuple[str, int]) -> None:
    """An image and a row of each label."""
    for label, _ in labels:
        Path(f"{label.split(',')[0]}.jpg").write_text(label)
    write_rows("labels.jsonl", [row_of(f"{label.split(',')[0]}.jpg", label, 0.9, index) for label, index in labels])


OF_IMAGENET = [("tench, Tinca tinca", 0), ("Egyptian cat", 285), ("tabby, tabby cat", 281)]


def test_only_chosen_labels_are_sorted_and_tagged(here: Path, invoke: Invoke) -> None:
    labelled(*OF_IMAGENET)
    code, _, err = invoke("sort", "labels.jsonl", "--into", "one", "--only", "egyptian_CAT", "--only", "tench")
    assert (code, "2 copied, 1 of other labels left alone" in err) == (0, True)
    assert sorted(os.listdir("one")) == ["Egyptian cat", "tench", "undo-journal.jsonl"]
    code, _, err = invoke("sort", "labels.jsonl", "--into", "two", "--groups", "everyday", "--only", "cat")
    assert (code, sorted(os.listdir("two/cat"))) == (0, ["Egyptian cat.jpg", "tabby.jpg"])
    code, _, err = invoke("tag", "labels.jsonl", "--only", "tabby cat", "-f", "txt")
    assert (code, err) == (0, "dinoclassify: 3 rows: 1 sidecar written, 2 of other labels\n")
    assert [path.name for path in here.glob("*.txt")] == ["tabby.jpg.txt"]
    code, _, err = invoke("tag", "labels.jsonl", "--only", "tench", "-f", "txt", "--remove")
    assert Path("tabby.jpg.txt").exists()


def test_only_chosen_labels_of_a_row_are_written(here: Path, invoke: Invoke) -> None:
    Path("x.jpg").write_text("x")
    row = row_of("x.jpg", "dog", 0.6, 1)
    rows = [replace(row, top=(*row.top, Label("cat", 2, 0.3)))]
    Path("labels.jsonl").write_bytes(b"".join(map(open_format("jsonl", 2).lines.line, rows)))
    assert invoke("tag", "labels.jsonl", "-f", "txt", "-k", "2", "--only", "cat")[0] == 0
    assert Path("x.jpg.txt").read_text() == "cat\n"
    layout = ["--layout", "{rank}/{label}/{name}"]
    assert invoke("sort", "labels.jsonl", "--into", "ranks", "--only", "cat", *layout)[0] == 0
    assert sorted(os.listdir("ranks")) == ["2", "undo-journal.jsonl"]
    assert (
        invoke("sort", "labels.jsonl", "--into", "best", "--only", "cat")[2].count("1 of other labels left alone") == 1
    )


@pytest.mark.parametrize(
    ("labels", "arguments", "code", "message"),
    [
        (
            OF_IMAGENET,
            ["--only", "egyptian kat"],
            2,
            "egyptian kat (did you mean Egyptian cat?): there is no such label",
        ),
        (
            OF_IMAGENET,
            ["--only", "vehicl"],
            2,
            "dinoclassify: --only vehicl: there is no such label or group; "
            "sort --groups everyday has a group vehicle. See: ",
        ),
        (
            OF_IMAGENET,
            ["--only", "qqqq"],
            2,
            "dinoclassify: --only qqqq: there is no such label or group; "
            "dinoclassify guide groups lists the groups. See: ",
        ),
        (OF_IMAGENET, ["--only", "tenhc"], 2, "--only tenhc (did you mean tench, Tinca tinca?): "),
        (
            [*OF_IMAGENET, ("Egyptian cat", 285)],
            ["--only", "cat"],
            2,
            "--only cat (did you mean Egyptian cat?): there is no such label or group; sort --groups everyday has a "
            "group cat. See: dinoclassify ",
        ),
        ([("tom cat", 0), ("crate", 1)], ["--only", "Cat"], 0, "--only Cat (did you mean tom cat?): no row has it\n"),
        (OF_IMAGENET, ["--only", "goldfish"], 0, "--only goldfish: no row has it\n"),
        (OF_IMAGENET, ["--only", " "], 2, "--only: name a label or a group"),
        (
            [("red", 0), ("blue", 1)],
            ["--only", "bleu", "--only", "red"],
            0,
            "--only bleu (did you mean blue?): no row has it",
        ),
        ([("fish", 0)], ["--only", "brid"], 2, "did you mean bird?"),
        ([("dog", 0)], ["--only", "dog", "--failed-to", "x"], 2, "leave out --failed-to"),
        (OF_IMAGENET, ["--only", "cats", "--groups", "everyday"], 2, "did you mean cat?"),
    ],
)
def test_unknown_labels_are_reported_with_a_suggestion(
    labels: list[tuple[str, int]],
    arguments: list[str],
    code: int,
    message: str,
    here: Path,
    invoke: Invoke,
) -> None:
    labelled(*labels)
    done, _, err = invoke("sort", "labels.jsonl", "--into", "sorted", *arguments)
    assert (done, message in err) == (code, True), err
    if not {"--groups", "--failed-to"} & {*arguments}:
        done, _, err = invoke("tag", "labels.jsonl", *arguments)
        assert (done, message in err) == (code, True), err


def test_label_missing_from_stdin_is_reported(here: Path, cli: Cli) -> None:
    labelled(("red", 0), ("blue", 1))
    with open("labels.jsonl", "rb") as stdin:
        done = cli("sort", "-", "--into", "sorted", "--only", "bleu", stdin=stdin)
    assert done.returncode == 0
    assert b"--only bleu (did you mean blue?): no row has it" in done.stderr
