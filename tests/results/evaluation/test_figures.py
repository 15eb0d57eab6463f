"""Figures of `evaluate` against scikit-learn and the literature."""

import math

import numpy as np
import pytest
from sklearn import metrics

from dinoclassify.results.evaluation.evaluate import evaluate
from dinoclassify.types.prediction import Failure, Prediction
from dinoclassify.types.share import wilson
from tests.helpers.guesses import guesses, names, predictions


def test_figures_agree_with_scikit_learn() -> None:
    scores, truth = guesses(600)
    found = evaluate(zip(predictions(scores, 5), ((int(n),) for n in truth), strict=True), names(8))
    best = scores.argmax(axis=1)
    assert (found.top1.right, found.top1.total) == (int((best == truth).sum()), 600)
    assert found.top5 is not None
    assert found.top5.value == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(8)))
    occurring = sorted(set(truth.tolist()))
    recalls = metrics.recall_score(truth, best, labels=occurring, average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, best, labels=occurring, average="macro"))
    expected = metrics.precision_recall_fscore_support(truth, best, labels=occurring)
    ours = [(one.precision, one.recall, one.f1, one.pictures) for one in found.classes]
    assert np.array(ours) == pytest.approx(np.array(expected).T)
    matrix = metrics.confusion_matrix(truth, best, labels=range(8))
    assert found.confusions == {(int(t), int(g)): matrix[t, g] for t, g in zip(*matrix.nonzero(), strict=True)}
    wrong = np.flatnonzero(best != truth)
    worst = wrong[np.argsort(-scores[wrong].max(axis=1))][:20]
    assert [one.path for one in found.mistakes] == [f"{number}.jpg" for number in worst]


def test_calibration_error_follows_its_definition() -> None:
    def error(score: float, right: int, of: int) -> float:
        rows = predictions(np.array([[score, 1 - score]] * of), 1)
        return evaluate(zip(rows, [(0,)] * right + [(1,)] * (of - right), strict=True), names(2)).calibration_error

    assert error(0.8, 8, 10) == pytest.approx(0)
    assert error(1.0, 10, 10) == pytest.approx(0)
    assert error(0.9, 5, 10) == pytest.approx(0.4)
    scores, truth = guesses(500)
    found = evaluate(zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True), names(8))
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    expected = 0.0
    for number in range(15):  # as Guo et al. (2017) define it
        here = (best > number / 15) & (best <= (number + 1) / 15)
        if here.any():
            expected += here.mean() * abs(right[here].mean() - best[here].mean())
    assert found.calibration_error == pytest.approx(expected)
    assert sum(one.count for one in found.bins) == 500


@pytest.mark.parametrize(  # Newcombe (1998), table I, method 3
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_agree_with_the_literature(right: int, total: int, low: float, high: float) -> None:
    assert list(wilson(right, total)) == pytest.approx([low, high], abs=5e-5)


def test_balanced_accuracy_interval_contains_it_and_narrows() -> None:
    scores, truth = guesses(20)
    few = zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True)
    assert evaluate(few, names(8)).balanced_interval is None  # three images a class tell too little
    widths = []
    for count in (100, 2500):
        scores, truth = guesses(count)
        rows = list(zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True))
        found = evaluate(rows, names(8))
        assert found.balanced_interval is not None
        assert found.balanced_accuracy is not None
        low, high = found.balanced_interval
        assert low < found.balanced_accuracy < high
        assert evaluate(rows, names(8)).balanced_interval == found.balanced_interval
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]  # with 25 times as many images a fifth


@pytest.mark.parametrize("seed", range(8))
def test_suggested_threshold_keeps_as_many_images_as_possible(seed: int) -> None:
    scores, truth = guesses(80, seed=seed)
    scores = np.round(scores, 2 if seed % 2 else 6)  # also with scores that are equal
    found = evaluate(
        zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True), names(8), target_precision=0.9
    )
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    kept = {threshold: best >= threshold for threshold in best}
    good = [reached.sum() for reached in kept.values() if right[reached].mean() >= 0.9]
    assert found.suggested is not None
    reached = best >= found.suggested.threshold
    assert reached.sum() == max(good)
    assert right[reached].mean() >= 0.9
    assert found.suggested.coverage == pytest.approx(reached.mean())
    assert (found.suggested.precision.right, found.suggested.precision.total) == (right[reached].sum(), reached.sum())


def test_suggested_threshold_is_exact_and_0_if_all_images_may_stay() -> None:
    close = np.array([[0.9999993, 0], [0.9999991, 0]])
    found = evaluate(zip(predictions(close, 1), [(0,), (1,)], strict=True), names(2), target_precision=1)
    assert found.suggested is not None
    assert close[1, 0] < float(str(found.suggested.threshold)) <= close[0, 0]
    found = evaluate(zip(predictions(close, 1), [(0,), (0,)], strict=True), names(2), target_precision=0.9)
    assert found.suggested is not None
    assert found.suggested.threshold == 0


def test_no_threshold_reaches_the_precision_and_no_image_counts() -> None:
    rows = predictions(np.array([[0.9, 0.1]] * 3), 1)
    assert evaluate(zip(rows, [(1,)] * 3, strict=True), names(2), target_precision=0.5).suggested is None
    failed = Prediction("x.jpg", "failed", failure=Failure("not_image", "it is none"))
    found = evaluate([(failed, (0,))], names(2), target_precision=0.5)
    assert (found.failed, found.top1.total, found.suggested) == (1, 0, None)
    assert math.isnan(found.macro_f1)
