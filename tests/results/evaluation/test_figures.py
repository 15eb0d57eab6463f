"""Figures of `evaluate` against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics

from dinoclassify.results.evaluation.evaluate import evaluate
from dinoclassify.results.evaluation.labelled_prediction import RANKS, LabelledRows, scores_in, with_truth
from dinoclassify.types.prediction import Failure, Prediction
from tests.helpers.guesses import guesses, judge, names, predictions


def test_figures_agree_with_scikit_learn() -> None:
    scores, truth = guesses(600)
    found = judge(scores, truth, 5)
    best = scores.argmax(axis=1)
    assert found.top1 is not None
    assert (found.top1.right, found.top1.total) == (int((best == truth).sum()), 600)
    assert found.top5 is not None
    assert found.top5.value == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(8)))
    recalls = metrics.recall_score(truth, best, labels=sorted(set(truth.tolist())), average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, best, average="macro"))
    expected = metrics.precision_recall_fscore_support(truth, best, zero_division=0)
    ours = [(one.precision, one.recall, one.f1, one.pictures) for one in found.classes]
    assert np.array(ours) == pytest.approx(np.array(expected).T)
    matrix = metrics.confusion_matrix(truth, best, labels=range(8))
    assert found.confusions == {(int(t), int(g)): matrix[t, g] for t, g in zip(*matrix.nonzero(), strict=True)}
    wrong = np.flatnonzero(best != truth)
    worst = wrong[np.argsort(-scores[wrong].max(axis=1))][:20]
    assert [one.path for one in found.mistakes] == [f"{number}.jpg" for number in worst]


def test_a_class_that_is_predicted_and_never_true_counts_in_the_mean_f1() -> None:
    truth, best = np.array([0, 0, 1, 1, 1]), np.array([0, 3, 1, 1, 1])
    found = judge(np.eye(5)[best], truth)
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, best, average="macro"))
    assert [(one.index, one.pictures, one.predicted, one.recall) for one in found.classes] == [
        (0, 2, 1, 0.5),
        (1, 3, 3, 1.0),
        (3, 0, 1, 0.0),
    ]
    assert found.balanced_accuracy == 0.75


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_agree_with_scikit_learn(dtype: str) -> None:
    scores, truth = guesses(400)
    scores = scores.astype(dtype)
    found = judge(scores, truth, 8)
    assert found.log_loss == pytest.approx(metrics.log_loss(truth, scores, labels=range(8)))
    expected = metrics.brier_score_loss(truth, scores, labels=range(8), scale_by_half=False)
    assert found.brier_score == pytest.approx(expected)
    assert found.brier_score == pytest.approx(((scores - np.eye(8)[truth]) ** 2).sum(axis=1).mean())
    assert judge(scores, truth, 7).log_loss is None
    assert judge(scores, truth, 7).brier_score is None


def test_certain_and_wrong_costs_as_much_as_with_scikit_learn() -> None:
    scores, truth = np.eye(2)[[0, 0, 1]], np.array([0, 1, 1])
    found = judge(scores, truth, 2)
    expected = metrics.log_loss(truth, scores.astype(np.float32))
    assert found.log_loss == pytest.approx(expected, rel=1e-6)
    assert found.brier_score == pytest.approx(2 / 3)


def test_a_row_keeps_five_labels_however_many_classes_there_are() -> None:
    (row,) = predictions(np.full((1, 1000), 0.001), 1000)
    kept = with_truth(row, 3, scores_in(row, 1000))
    assert len(kept.row.top) == RANKS
    assert kept.losses is not None
    assert kept.losses.log == pytest.approx(math.log(1000))


def test_no_image_counts() -> None:
    failed = Prediction("x.jpg", "failed", failure=Failure("not_image", "it is none"))
    found = evaluate(LabelledRows([with_truth(failed, 0, None)], names(2)), target_precision=0.5)
    assert (found.failed, found.images, found.suggested, found.calibration, found.log_loss) == (1, 0, None, None, None)
    assert math.isnan(found.macro_f1)
