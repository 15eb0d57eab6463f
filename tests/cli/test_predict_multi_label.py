"""`predict` with a multi-label model: rows have as many labels as are likely."""

import json
from pathlib import Path

import pytest

from dinoclassify.results.reader import read_predictions
from dinoclassify.results.run_facts import read_facts
from tests.helpers.commands import Invoke, parse_rows
from tests.helpers.prediction_files import FORMAT_NAMES

Scores = dict[str, list[float]]  # of the labels in each row, by path


@pytest.fixture
def predict(invoke: Invoke, multi_label: str) -> Invoke:
    """Run `predict` with the multi-label model on the sample images, two of them broken."""
    return lambda *arguments: invoke("predict", "photos", "-m", multi_label, "--runtime", "torch", "-q", *arguments)


@pytest.fixture
def scores(here: Path, predict: Invoke) -> Scores:
    """All scores of each image; failed ones have none."""
    predict("-k", 7, "--threshold", 0, "-o", "all.jsonl")
    return scores_in("all.jsonl")


def scores_in(name: str) -> Scores:
    return {row.path: [label.score for label in row.top] for row in read_predictions(name)}


def likely(scores: Scores, least: float, most: int = 7) -> Scores:
    """The best score of each image, and the next ones from ``least`` up."""
    return {
        path: [score for rank, score in enumerate(ranks[:most]) if score >= least or not rank]
        for path, ranks in scores.items()
    }


def test_rows_have_the_likely_labels(scores: Scores, predict: Invoke) -> None:
    assert {len(ranks) for ranks in scores.values()} == {0, 7}
    code, out, _ = predict()
    rows = parse_rows(out)
    found = {row["path"]: [float(row[name]) for name in row if name.startswith("score") and row[name]] for row in rows}
    assert (code, found) == (3, likely(scores, 0.5))
    assert len(set(map(len, found.values()))) > 3
    assert {row["status"] for row in rows} == {"ok", "failed"}
    assert "index_7,error_code" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        (("--threshold", "30%"), 0.3, 7),
        (("-k", 2), 0.5, 2),
        (("-k", 1), 0.5, 1),
        (("-k", 4, "--threshold", 0), 0, 4),
        (("-k", 1, "--threshold", 0), 0, 1),
    ],
)
def test_top_k_and_threshold_bound_the_labels(
    options: tuple[object, ...], least: float, most: int, scores: Scores, predict: Invoke
) -> None:
    predict(*options, "-o", "some.csv")
    assert scores_in("some.csv") == likely(scores, least, most)


def test_rows_without_a_likely_label_are_uncertain_and_keep_the_best(scores: Scores, predict: Invoke) -> None:
    predict("--threshold", 0.75, "-o", "some.csv")
    assert scores_in("some.csv") == likely(scores, 0.75)
    for row in read_predictions("some.csv"):
        assert row.status == ("failed" if row.failure else "ok" if (row.score or 0) >= 0.75 else "uncertain")


@pytest.mark.parametrize("name", [*FORMAT_NAMES, "excel"])
def test_every_format_holds_rows_with_fewer_labels_and_can_be_resumed(
    name: str, scores: Scores, predict: Invoke
) -> None:
    how = ("--excel-safe", "-o", "out.csv") if name == "excel" else ("-f", name, "-o", "out")
    predict("--limit", 3, *how)
    assert predict("--resume", *how)[0] == 3
    assert scores_in(how[-1]) == likely(scores, 0.5)
    assert read_facts(how[-1]).multi_label


def test_the_metadata_have_the_values_in_use(here: Path, predict: Invoke, invoke: Invoke, tiny: str) -> None:
    predict("-o", "many.csv")
    invoke("predict", "photos", "-m", tiny, "--runtime", "torch", "-o", "one.csv", "-q")
    many, one = (json.loads(Path(f"{name}.csv.meta.json").read_text()) for name in ("many", "one"))
    assert (many["model"]["multi_label"], one["model"]["multi_label"]) == (True, False)
    assert (many["made_with"]["top-k"], many["made_with"]["threshold"]) == (7, 0.5)
    assert (one["made_with"]["top-k"], one["made_with"]["threshold"]) == (1, 0.0)
    assert many["made_with"].keys() == one["made_with"].keys()


def test_rows_of_a_version_that_wrote_the_best_label_alone_resume_with_its_defaults(
    scores: Scores, predict: Invoke
) -> None:
    predict("-k", 1, "--threshold", 0, "-o", "old.csv")
    meta = json.loads(Path("old.csv.meta.json").read_text())
    del meta["model"]["multi_label"]
    Path("old.csv.meta.json").write_text(json.dumps(meta))
    assert not read_facts("old.csv").multi_label
    code, _, err = predict("-o", "old.csv", "--resume")
    assert (code, "repeat them (use --top-k 1 and --threshold 0.0)" in err) == (2, True)
    assert predict("-o", "old.csv", "--resume", "-k", 1, "--threshold", 0)[0] == 3
    assert scores_in("old.csv") == likely(scores, 0, 1)


def test_groups_of_a_multi_label_model_are_as_many_as_are_likely(scores: Scores, predict: Invoke) -> None:
    Path("g.csv").write_text("index,group\n0,bony\n1,bony\n2,shark\n3,shark\n4,shark\n")
    predict("--groups", "g.csv", "-k", 7, "--threshold", 0, "-o", "all.csv")
    assert {len(ranks) for ranks in scores_in("all.csv").values()} == {0, 3}
    predict("--groups", "g.csv", "-o", "some.csv")
    assert scores_in("some.csv") == likely(scores_in("all.csv"), 0.5)


def test_merged_shards_have_the_rows_and_the_metadata_of_one_run(
    scores: Scores, predict: Invoke, invoke: Invoke
) -> None:
    for index in (1, 2):
        predict("--shard", f"{index}/2", "-o", f"{index}.csv")
    assert invoke("merge", "1.csv", "2.csv", "-o", "all.parquet")[0] == 0
    assert scores_in("all.parquet") == likely(scores, 0.5)
    assert read_facts("all.parquet").multi_label


def test_a_report_shows_that_the_model_is_multi_label(scores: Scores, predict: Invoke, invoke: Invoke) -> None:
    predict("-o", "out.csv")
    assert invoke("report", "out.csv", "-o", "out.html", "--thumbnails", 0, "-q")[0] == 0
    assert "multi label" in Path("out.html").read_text()
