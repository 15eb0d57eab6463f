"""Scores on held-out images, and what is called a difference."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from dinoclassify.training.scores import Outcome, compare, mean_outcome, outcome_of
from dinoclassify.types.share import wilson


def test_scores_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 4, 200)
    runs = [np.where(generator.random(200) < 0.8, classes, generator.integers(0, 4, 200)) for _ in range(3)]
    scores = compare({"head": outcome_of(classes, runs)}, np.arange(200))
    share = float(np.mean([(run == classes).mean() for run in runs]))
    assert scores["head"].accuracy == pytest.approx(share)
    assert scores["head"].f1 == pytest.approx(np.mean([f1_score(classes, run, average="macro") for run in runs]))
    assert list(scores["head"].interval) == pytest.approx(wilson(200 * share, 200))


def test_methods_are_compared_by_the_exact_mcnemar_test() -> None:
    head = np.array([[1.0] * 12 + [0.0] * 8 + [1.0] * 30])
    other = np.array([[0.0] * 10 + [1.0] * 2 + [1.0] * 3 + [0.0] * 5 + [1.0] * 30])
    score = compare({"head": Outcome(head, 0), "other": Outcome(other, 0)}, np.arange(50))["other"]
    assert (score.head_only, score.this_only) == (10, 3)
    assert score.p_value == pytest.approx(2 * binom.cdf(3, 13, 0.5))
    assert not score.loses_to_head  # p = 0.09


def test_copies_and_groups_count_once() -> None:
    right = np.ones((1, 60))
    for units, trials in ((np.arange(60), 60), (np.repeat(np.arange(30), 2), 30), (np.repeat([0, 1], [59, 1]), 1.03)):
        score = compare({"head": Outcome(right, 0)}, units)["head"]
        assert score.images == 60
        assert score.trials == pytest.approx(trials, abs=0.01)


def test_interval_covers_the_accuracy_of_groups_of_any_size() -> None:
    """All images of a group are right, or all are wrong; some groups are large."""
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        units = np.repeat(np.arange(60), np.ceil(generator.pareto(1.5, 60) + 0.1).astype(int))
        right = (generator.random(60) < 0.8)[units].astype(float)
        low, high = compare({"head": Outcome(right[None], 0)}, units)["head"].interval
        covered.append(low <= 0.8 <= high)
    assert np.mean(covered) >= 0.92


def test_a_verdict_needs_the_same_direction_in_all_repetitions() -> None:
    """In the first repetition the other method is clearly better, in the others the head."""
    head = np.array([[0.0] * 10 + [1.0] * 10, [1.0] * 20, [1.0] * 20])
    other = np.array([[1.0] * 20, [0.0] * 10 + [1.0] * 10, [0.0] * 10 + [1.0] * 10])
    score = compare({"head": Outcome(head, 0), "other": Outcome(other, 0)}, np.arange(20))["other"]
    assert score.p_value < 0.01
    assert score.gain < 0
    assert not score.beats_head


def test_equal_methods_are_rarely_called_different() -> None:
    generator = np.random.default_rng(0)
    verdicts = 0
    for _ in range(2000):
        right = (generator.random((2, 1, 150)) < 0.8).astype(float)
        score = compare({"head": Outcome(right[0], 0), "other": Outcome(right[1], 0)}, np.arange(150))["other"]
        verdicts += score.beats_head or score.loses_to_head
    assert verdicts <= 100  # of 2,000, at a level of 5 %


def test_methods_are_compared_where_both_were_asked() -> None:
    nan = np.nan
    outcomes = {"head": Outcome(np.array([[1.0, 1.0, 0.0]]), 0), "other": Outcome(np.array([[nan, 0.0, 1.0]]), 0)}
    score = compare(outcomes, np.arange(3))["other"]
    assert (score.images, score.head_only, score.this_only) == (2, 1, 1)
    many = mean_outcome([outcomes["head"], outcomes["other"]])
    assert many.right.tolist() == [[1.0, 0.5, 0.5]]
