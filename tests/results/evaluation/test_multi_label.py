"""`evaluate --multi-label`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from tests.helpers.guesses import judge_many, tags
from tests.helpers.invoke import Invoke


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_multi_label_figures_agree_with_scikit_learn(threshold: float) -> None:
    scores, truth = tags(300)
    found = judge_many(scores, truth, threshold)
    many, given = found.multi_label, scores >= threshold
    assert many is not None
    expected = metrics.average_precision_score(truth[:, :5], scores[:, :5], average="macro")
    assert many.mean_average_precision == pytest.approx(expected)
    assert many.micro_f1 == pytest.approx(metrics.f1_score(truth, given, average="micro"))
    assert many.exact.value == pytest.approx(metrics.accuracy_score(truth, given))
    assert many.answers.value == pytest.approx(1 - metrics.hamming_loss(truth, given))
    assert many.always_no == pytest.approx(1 - metrics.hamming_loss(truth, given & False))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, given, average="macro", zero_division=np.nan))
    assert found.log_loss == pytest.approx(metrics.log_loss(truth.ravel(), scores.ravel()))
    assert found.brier_score == pytest.approx(metrics.brier_score_loss(truth.ravel(), scores.ravel()))
    assert (found.top1, found.top5, found.balanced_accuracy) == (None, None, None)
    bins = np.clip(np.ceil(scores * 15).astype(int) - 1, 0, 14)
    errors = [abs((scores - truth)[bins == n].mean()) * (bins == n).mean() for n in range(15) if (bins == n).any()]
    assert found.calibration is not None
    assert found.calibration.error == pytest.approx(sum(errors))


def test_labels_that_no_image_has_and_none_is_given_are_not_averaged() -> None:
    truth, given = np.array([[1, 0, 0], [1, 0, 0]], bool), np.array([[1, 0, 0], [1, 1, 0]], bool)
    found = judge_many(given * 1.0, truth)
    assert found.macro_f1 == metrics.f1_score(truth, given, average="macro", zero_division=np.nan) == 0.5
    assert [one.index for one in found.classes] == [0, 1]


def test_an_image_without_labels_is_right_if_none_is_given() -> None:
    found = judge_many(np.array([[0.4, 0.1], [0.4, 0.6]]), np.zeros((2, 2), bool)).multi_label
    assert found is not None
    assert (found.exact.right, found.exact.total, found.always_no) == (1, 2, 1)
    assert [(one.path, one.index, one.given) for one in found.wrong_answers] == [("1.jpg", 1, True)]


def test_wrong_answers_are_sorted_by_the_distance_from_the_threshold() -> None:
    scores, truth = tags(40)
    many = judge_many(scores, truth, 0.45).multi_label
    assert many is not None
    wrong = [
        (-abs(scores[image, label] - 0.45), image, label)
        for image, label in zip(*np.nonzero((scores >= 0.45) != truth), strict=True)
    ]
    expected = [(f"{image}.jpg", label) for _, image, label in sorted(wrong)[:20]]
    assert [(one.path, one.index) for one in many.wrong_answers] == expected
    assert all(one.given != truth[int(one.path[:-4]), one.index] for one in many.wrong_answers)


@pytest.fixture
def many(here: Path, tiny: str) -> list[str]:
    """The options of `evaluate` for a table of labels; the folder `model` has a multi-label model."""
    shutil.copytree(tiny, "model")
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    (here / "t.csv").write_text(
        "path,label\ntest/n02124075/chelsea.jpg,goldfish;stingray\ntest/n04485082/camera.jpg,\n"
        "test/n07920052/coffee.jpg,tench\n"
    )
    return ["--labels-from", "t.csv", "--multi-label"]


def test_multi_label_command(many: list[str], tiny: str, invoke: Invoke) -> None:
    code, out, _ = invoke("evaluate", *many, "-m", "./model", "--runtime", "torch", "-q")
    assert code == 0
    figures = [line.split("\t")[0] for line in out.splitlines()]
    assert figures[1:12] == [
        "all labels are right",
        "answers right",
        "answers right if always no",
        "F1 of all answers",
        "mean average precision",
        "mean F1 of labels",
        "log loss",
        "Brier score",
        "expected calibration error",
        "the same by chance",
        "mean score minus share of true labels",
    ]
    assert "path\tlabel\tanswer\tscore" in out
    options = ("-m", "./model", "--runtime", "torch", "--threshold", "0", "-k", 7)
    invoke("predict", "test", *options, "-o", "labels.jsonl", "-q")
    by_file = invoke("evaluate", *many, "--predictions", "labels.jsonl", "-q")[1]
    assert by_file.splitlines()[:11] == out.splitlines()[:11]
    assert invoke("evaluate", *many, "-m", tiny) == (
        2,
        "",
        f"dinoclassify: {tiny} gives one label an image: leave out --multi-label\n",
    )


def test_threshold_goes_with_many_labels(many: list[str], tiny: str, invoke: Invoke) -> None:
    code, out, err = invoke("evaluate", "test", "--predictions", "x.csv", "--threshold", "0.4")
    assert (code, out) == (2, "")
    assert "--threshold goes with --multi-label: leave it out, or see --target-precision" in err
    assert invoke("evaluate", *many[:2], "-m", tiny, "--threshold", "0.4")[0] == 2
    options = ("-m", "./model", "--runtime", "torch", "--json", "-q")
    found = json.loads(invoke("evaluate", *many, *options, "--threshold", "40%")[1])
    assert found["multi_label"]["threshold"] == 0.4
    assert (found["top1"], found["top5"]) == (None, None)
    assert {one["answer"] for one in found["mistakes"]} <= {"given", "missing"}


LABELS = {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"], "c.jpg": [], "d.jpg": ["bird"]}  # what is true
GIVEN = {
    "a.jpg": [("cat", 0.9)],
    "b.jpg": [("cat", 0.8), ("dog", 0.6)],
    "c.jpg": [("cat", 0.2)],
    "d.jpg": [("cow", 0.7)],
}
NAMES = ["cat", "cow", "dog", "fish"]


def write_rows(given: dict[str, list[tuple[str, float]]], threshold: float, top_k: int, classes: int = 5) -> list[str]:
    """Write rows as `predict` does of a multi-label model, and what is true. Returns the command that judges them."""
    lines = []
    for path, labels in given.items():
        ranks = [{"label": label, "score": score, "index": NAMES.index(label)} for label, score in labels]
        row = {"path": path, "status": "ok", **ranks[0], "top": ranks}
        lines.append(json.dumps(row | dict.fromkeys(["error_code", "error", "size", "mtime_ns"])))
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("t.csv").write_text("path,label\n" + "".join(f"{path},{';'.join(true)}\n" for path, true in LABELS.items()))
    meta = {"made_with": {"threshold": threshold, "top-k": top_k}, "model": {"labels": classes}}
    Path("rows.jsonl.meta.json").write_text(json.dumps(meta))
    return ["evaluate", "--labels-from", "t.csv", "--multi-label", "--predictions", "rows.jsonl"]


def test_a_score_that_a_row_lacks_means_not_given(here: Path, invoke: Invoke) -> None:
    command = write_rows(GIVEN, threshold=0.5, top_k=3)
    code, out, _ = invoke(*command, "--json")
    assert code == 0
    found = json.loads(out)
    many = found["multi_label"]
    assert many["threshold"] == 0.5
    assert (many["exact"]["right"], many["exact"]["total"]) == (1, 4)
    assert (many["answers"]["right"], many["answers"]["total"]) == (16, 20)  # 5 labels: bird has a free index
    assert many["always_no"] == 0.8
    assert many["micro_f1"] == pytest.approx(2 * 2 / (4 + 4))
    for unknown in ("log_loss", "brier_score", "calibration_error", "signed_calibration_error"):
        assert found[unknown] is None
    assert many["mean_average_precision"] is None
    missing = [one for one in found["mistakes"] if one["answer"] == "missing"]
    assert [(one["path"], one["label"], one["score"]) for one in missing] == [
        ("a.jpg", "dog", None),
        ("d.jpg", "bird", None),
    ]
    figures = [line.split("\t")[0] for line in invoke(*command)[1].split("\n\n")[0].splitlines()]
    assert figures[-1] == "mean F1 of labels"


def test_the_threshold_is_that_of_the_rows(here: Path, invoke: Invoke) -> None:
    command = write_rows(GIVEN, threshold=0.65, top_k=3)
    assert json.loads(invoke(*command, "--json")[1])["multi_label"]["threshold"] == 0.65
    assert json.loads(invoke(*command, "--json", "--threshold", "0.85")[1])["multi_label"]["threshold"] == 0.85
    code, out, err = invoke(*command, "--threshold", "0.6", "-q")
    assert (code, out) == (2, "")
    assert "--threshold 0.6: the rows of rows.jsonl lack labels with a score below 0.65: " in err
    write_rows(GIVEN, threshold=0.0, top_k=3)
    assert json.loads(invoke(*command, "--json")[1])["multi_label"]["threshold"] == 0.5
    Path("rows.jsonl.meta.json").unlink()
    assert invoke(*command, "--threshold", "0.4", "-q")[0] == 2


def test_rows_that_may_be_cut_are_refused(here: Path, invoke: Invoke) -> None:
    command = write_rows(GIVEN, threshold=0.5, top_k=2)
    code, out, err = invoke(*command, "-q")
    assert (code, out) == (2, "")
    assert err == (
        "dinoclassify: b.jpg in rows.jsonl may lack labels that reach 0.5: run predict with a larger --top-k, "
        "or leave out --multi-label if the model gives one label an image\n"
    )
    assert invoke(*command, "--threshold", "0.7", "-q")[0] == 0
    Path("rows.jsonl.meta.json").unlink()
    assert invoke(*command, "-q")[0] == 2


def test_threshold_for_a_precision_is_not_below_that_of_the_rows(here: Path, invoke: Invoke) -> None:
    command = write_rows(GIVEN, threshold=0.5, top_k=3)
    suggested = json.loads(invoke(*command, "--json", "--target-precision", "0.4")[1])["suggested"]
    assert suggested["threshold"] == 0.5
    lines = invoke(*command, "--target-precision", "0.4", "-q")[1].splitlines()
    (line,) = [line for line in lines if line.startswith("--threshold 0.5: ")]
    assert "% of the given labels were right here" in line
    assert line.endswith("% of the true labels were given; judged on images that it was not tuned on.")
