"""`tag` with rows of a multi-label model: which labels are written, by default and as the options say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import FLAT, keywords, results, tagged_row


def multi_label_results(folder: Path, *names: str, uncertain: bool = False) -> Path:
    """Rows of x.jpg with labels of the scores 0.9, 0.45, 0.3 and so on."""
    rows = results(folder, tagged_row(folder / "x.jpg", *names, uncertain=uncertain))
    Path(f"{rows}.meta.json").write_text(json.dumps({"model": {"multi_label": True}}))
    return rows


def written(photo: Path) -> list[str]:
    sidecar = photo.with_name("x.jpg.xmp")
    return keywords(sidecar.read_bytes(), FLAT) if sidecar.exists() else []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "a"),
        ("--min-score 0.4", "a b"),
        ("--min-score 0", "a b c"),
        ("--min-score 0 -k 2", "a b"),
        ("-k 9", "a"),
        ("-k 9 --min-score 30%", "a b c"),
        ("--min-score 0.95", ""),
        ("--min-score 0 --only c", "c"),
    ],
)
def test_all_labels_from_a_half_up_are_written_or_those_that_options_say(
    options: str, expected: str, photo: Path, tag: Invoke
) -> None:
    assert tag(multi_label_results(photo.parent, "a", "b", "c"), *options.split())[0] == 0
    assert written(photo) == expected.split()


def test_every_likely_label_of_predict_is_written(
    photo: Path, tag: Invoke, multi_label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinoclassify.cli import run
    from dinoclassify.results.reader import read_predictions

    monkeypatch.chdir(photo.parent)
    for options in ([], ["-k", "7", "--threshold", "0"]):
        command = ["predict", "x.jpg", "-m", multi_label, "--runtime", "torch", "-q", "-o", "rows.csv", *options]
        assert run(command) == 0
        (row,) = read_predictions("rows.csv")
        assert tag("rows.csv")[0] == 0
        likely = [label.label.split(",")[0] for label in row.top if label.score >= 0.5]
        assert len(likely) > 1
        assert written(photo) == likely


def test_labels_that_reach_the_threshold_of_predict_are_written(photo: Path, tag: Invoke) -> None:
    rows = multi_label_results(photo.parent, "a", "b", "c")
    meta = {"model": {"multi_label": True}, "made_with": {"threshold": 0.4}}
    Path(f"{rows}.meta.json").write_text(json.dumps(meta))
    assert tag(rows)[0] == 0
    assert written(photo) == ["a", "b"]


def test_an_uncertain_row_gets_no_keywords(photo: Path, tag: Invoke) -> None:
    tag(multi_label_results(photo.parent, "a"))
    rows = multi_label_results(photo.parent, "a", uncertain=True)
    assert tag(rows)[2] == "dinoclassify: 1 row: 0 sidecars written, 1 deleted\n"


def test_keywords_can_be_removed(photo: Path, tag: Invoke) -> None:
    rows = multi_label_results(photo.parent, "a", "b")
    tag(rows, "--min-score", "0.1")
    assert tag(rows, "--remove")[0] == 0
    assert written(photo) == []


def test_rows_on_stdin_count_as_those_of_a_model_of_one_label(
    photo: Path, tag: Invoke, stdin: Callable[[bytes], None]
) -> None:
    content = multi_label_results(photo.parent, "a", "b").read_bytes()
    stdin(content)
    assert tag("-")[0] == 0
    assert written(photo) == ["a"]
    stdin(content)
    assert tag("-", "-k", "2")[0] == 0
    assert written(photo) == ["a", "b"]
    stdin(content)
    code, _, err = tag("-", "-k", "3")
    cures = "use -k 2, run predict again with -k 3, or name the file if the model is multi-label"
    assert (code, err.split(". See")[0]) == (2, f"dinoclassify: --top-k 3: each row has 2 labels; {cures}")
