"""`evaluate --multi-label`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from dinoclassify import UsageError
from dinoclassify.results.evaluation.evaluate import evaluate
from tests.helpers.guesses import guesses, names, predictions
from tests.helpers.invoke import Invoke


def test_multi_label_figures_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.random((300, 6)) < 0.3
    truth[:, 5] = False  # a label that never occurs
    scores = np.round((generator.random((300, 6)) + truth * 0.4) / 1.4, 2)  # with many that are equal
    answers = zip(predictions(scores, 6), (tuple(np.flatnonzero(row).tolist()) for row in truth), strict=True)
    found = evaluate(answers, names(6), multi_label=True)
    assert found.multi_label is not None
    expected = metrics.average_precision_score(truth[:, :5], scores[:, :5], average="macro")
    assert found.multi_label.mean_average_precision == pytest.approx(expected)
    assert found.multi_label.micro_f1 == pytest.approx(metrics.f1_score(truth, scores >= 0.5, average="micro"))
    assert found.multi_label.exact.value == pytest.approx(metrics.accuracy_score(truth, scores >= 0.5))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth[:, :5], scores[:, :5] >= 0.5, average="macro"))
    assert found.top1.right == sum(truth[np.arange(300), scores.argmax(axis=1)])
    assert found.balanced_accuracy is None
    bins = np.clip(np.ceil(scores * 15).astype(int) - 1, 0, 14)
    errors = [abs((scores - truth)[bins == n].mean()) * (bins == n).mean() for n in range(15) if (bins == n).any()]
    assert found.calibration_error == pytest.approx(sum(errors))


def test_multi_label_needs_all_scores() -> None:
    scores, truth = guesses(3)
    answers = zip(predictions(scores, 5), ((int(n),) for n in truth), strict=True)
    with pytest.raises(
        UsageError, match="5 of 8 scores: --multi-label needs all, run predict with --top-k 8 --threshold 0"
    ):
        evaluate(answers, names(8), multi_label=True)


def test_multi_label_command(here: Path, tiny: str, invoke: Invoke, tmp_path: Path) -> None:
    shutil.copytree(tiny, "model")
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    (here / "t.csv").write_text(
        "path,label\ntest/n02124075/chelsea.jpg,goldfish;stingray\ntest/n04485082/camera.jpg,\n"
        "test/n07920052/coffee.jpg,tench\n"
    )
    table = ("--labels-from", "t.csv", "--multi-label")
    code, out, _ = invoke("evaluate", *table, "-m", "./model", "--runtime", "torch", "-q")
    assert code == 0
    figures = [line.split("\t")[0] for line in out.splitlines()]
    assert figures[1:8] == [
        "best label is right",
        "one of the best five is right",
        "all labels are right",
        "mean average precision",
        "F1 of all answers",
        "mean F1 of classes",
        "expected calibration error",
    ]
    all_scores = ("-k", 7, "--threshold", 0)
    invoke("predict", "test", "-m", "./model", "--runtime", "torch", *all_scores, "-o", "labels.jsonl", "-q")
    by_file = invoke("evaluate", *table, "--predictions", "labels.jsonl", "-q")[1]
    assert by_file.splitlines()[:8] == out.splitlines()[:8]
    assert invoke("evaluate", *table, "-m", tiny) == (
        2,
        "",
        f"dinoclassify: {tiny} gives one label an image: leave out --multi-label\n",
    )
