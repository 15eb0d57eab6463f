"""The threshold that `evaluate` suggests for a precision, and how well it does on other images."""

import numpy as np
import pytest

from dinoclassify.results.evaluation.thresholds import cross_fit, suggest_threshold, trace
from dinoclassify.types.share import wilson
from tests.helpers.guesses import guesses, judge, judge_many, tags


@pytest.mark.parametrize("seed", range(8))
def test_suggested_threshold_keeps_as_many_images_as_possible(seed: int) -> None:
    scores, truth = guesses(80, seed=seed)
    scores = np.round(scores, 2 if seed % 2 else 6)  # also with scores that are equal
    found = judge(scores, truth, target=0.9)
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    kept = {threshold: best >= threshold for threshold in best}
    good = [reached.sum() for reached in kept.values() if right[reached].mean() >= 0.9]
    assert found.suggested is not None
    reached = best >= found.suggested.threshold
    assert reached.sum() == max(good)
    assert right[reached].mean() >= 0.9


def test_suggested_threshold_is_exact_and_0_if_all_images_may_stay() -> None:
    close = np.array([[0.9999993, 0], [0.9999991, 0]])
    found = judge(close, np.array([0, 1]), target=1)
    assert found.suggested is not None
    assert close[1, 0] < float(str(found.suggested.threshold)) <= close[0, 0]
    found = judge(close, np.array([0, 0]), target=0.9)
    assert found.suggested is not None
    assert found.suggested.threshold == 0


def test_no_threshold_reaches_the_precision() -> None:
    assert judge(np.array([[0.9, 0.1]] * 3), np.array([1] * 3), target=0.5).suggested is None


def test_equal_scores_are_all_covered_or_none() -> None:
    found = judge(np.array([[0.9, 0.1]] * 20), np.array([0] * 19 + [1]), target=0.9)
    assert found.suggested is not None
    assert (found.suggested.precision.right, found.suggested.precision.total, found.suggested.coverage) == (19, 20, 1)


def test_a_fold_without_a_threshold_covers_nothing() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    found = judge(scores, np.array([0, 1, 1]), target=1).suggested  # without the first image, all are wrong
    assert found is not None
    assert (found.threshold, found.precision.total, found.coverage) == (0.9, 0, 0)
    alone = judge(scores[:1], np.array([0]), target=1).suggested
    assert alone is not None
    assert (alone.threshold, alone.precision.total, alone.coverage) == (0, 0, 0)


def test_each_image_is_judged_at_the_threshold_of_the_other_folds() -> None:
    scores, truth = guesses(57, seed=4)
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    folds = np.random.default_rng(0).permutation(57) % 10
    covered = np.zeros(57, bool)
    for number in range(57):
        others = folds != folds[number]
        threshold = suggest_threshold(trace(best[others], right[others]), 0.8)
        covered[number] = threshold is not None and best[number] >= threshold
    found = judge(scores, truth, target=0.8).suggested
    assert found is not None
    assert (found.precision.right, found.precision.total) == ((covered & right).sum(), covered.sum())
    assert found.coverage == covered.mean()


def draw(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether their labels are right, of a slightly over-confident model."""
    scores = generator.beta(4, 1.5, count)
    return scores, generator.random(count) < 0.1 + 0.88 * scores


@pytest.mark.parametrize(("images", "target"), [(100, 0.9), (450, 0.9)])
def test_cross_fitted_precision_is_unbiased_and_that_of_the_same_images_too_high(images: int, target: float) -> None:
    """Over many draws, as many labels are right as of the same thresholds on a large fresh sample."""
    generator = np.random.default_rng(images)
    fresh, fresh_hits = draw(200_000, generator)
    order = np.argsort(fresh)
    fresh, hits_up_to = fresh[order], np.append(0, np.cumsum(fresh_hits[order]))
    folds = np.random.default_rng(0).permutation(images) % 10

    def reach(threshold: float) -> tuple[float, float]:
        """The shares of the fresh images that reach a threshold, and that do and are right."""
        below = np.searchsorted(fresh, threshold)
        return 1 - below / len(fresh), (hits_up_to[-1] - hits_up_to[below]) / len(fresh)

    counts, own, true, is_above_lower_end = [], [], [], []
    for _ in range(250):
        scores, hits = draw(images, generator)
        threshold = suggest_threshold(trace(scores, hits), target)
        if threshold is None:
            continue
        reached = cross_fit(scores, hits, np.arange(images), target)
        tuned = [suggest_threshold(trace(scores[folds != fold], hits[folds != fold]), target) for fold in range(10)]
        expected = np.sum([np.array(reach(one)) * images / 10 for one in tuned if one is not None], axis=0)
        counts.append([reached.sum(), (reached & hits).sum(), *expected])
        own.append(hits[scores >= threshold].mean())
        true.append(reach(threshold)[1] / reach(threshold)[0])
        is_above_lower_end.append(wilson(int(counts[-1][1]), int(counts[-1][0]))[0] <= true[-1])
    covered, right, expected_covered, expected_right = np.sum(counts, axis=0)
    assert right / covered == pytest.approx(expected_right / expected_covered, abs=0.008)
    assert np.mean(own) - np.mean(true) > 0.005
    assert np.mean(is_above_lower_end) > 0.96


def test_precision_of_given_labels_and_recall_of_true_ones() -> None:
    scores, truths = tags(300)
    found = judge_many(scores, truths, target=0.6).suggested
    assert found is not None
    given = scores >= found.threshold
    assert truths[given].mean() >= 0.6
    for lower in np.unique(scores[scores < found.threshold]):
        assert truths[scores >= lower].mean() < 0.6
    assert found.precision.value == pytest.approx(truths[given].mean(), abs=0.05)
    assert found.coverage == pytest.approx((given & truths).sum() / truths.sum(), abs=0.1)
    assert found.precision.interval is not None


def test_answers_of_an_image_are_judged_at_the_threshold_of_the_other_images() -> None:
    scores, truths = tags(63)
    folds = np.random.default_rng(0).permutation(63) % 10
    given = np.zeros(truths.shape, bool)
    for fold in range(10):
        mine = folds == fold
        threshold = suggest_threshold(trace(scores[~mine].ravel(), truths[~mine].ravel()), 0.6)
        given[mine] = scores[mine] >= threshold if threshold is not None else False
    found = judge_many(scores, truths, target=0.6).suggested
    assert found is not None
    assert (found.precision.right, found.precision.total) == ((given & truths).sum(), given.sum())
    assert found.coverage == pytest.approx((given & truths).sum() / truths.sum())


def test_the_least_threshold_is_suggested_where_scores_below_are_unknown() -> None:
    curve = trace(np.array([0.9, 0.6]), np.array([True, True]), 3)
    assert suggest_threshold(curve, 0.9, 0.5) == 0.5
    assert curve.coverage.tolist() == pytest.approx([1 / 3, 2 / 3])
