"""Intervals cover what they should, in simulations with known truth."""

import numpy as np
import pytest

from dinoclassify.results.evaluation.intervals import balanced_interval, ratio_interval
from dinoclassify.types.share import Interval, wilson
from tests.helpers.guesses import guesses, judge


@pytest.mark.parametrize(  # Newcombe (1998), table I, method 3
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_agree_with_the_literature(right: int, total: int, low: float, high: float) -> None:
    assert list(wilson(right, total)) == pytest.approx([low, high], abs=5e-5)


def test_balanced_accuracy_interval_contains_it_and_narrows() -> None:
    widths = []
    for count in (150, 3750):
        scores, truth = guesses(count)
        found = judge(scores, truth)
        assert found.balanced_interval is not None
        assert found.balanced_accuracy is not None
        low, high = found.balanced_interval
        assert low < found.balanced_accuracy < high
        widths.append(high - low)
    assert widths[0] == pytest.approx(5 * widths[1], rel=0.2)  # with 25 times as many images a fifth


def test_balanced_accuracy_has_no_interval_if_a_class_has_few_images() -> None:
    truths, hits = [0] * 50 + [1] * 5, np.arange(55) % 3 > 0
    assert balanced_interval(truths, hits) is not None
    assert balanced_interval(truths[:-1], hits[:-1]) is None
    assert balanced_interval([], np.array([], bool)) is None


def test_a_small_class_that_is_all_right_leaves_doubt() -> None:
    """Of 10,000 images of one class and 5 of another, 10 are wrong: nobody knows whether 5 of 5 means much."""
    truths = [0] * 10_000 + [1] * 5
    interval = balanced_interval(truths, np.arange(10_005) >= 10)
    assert interval is not None
    assert wilson(5, 5)[0] < interval[0] < 0.85
    everything_right = balanced_interval(truths, np.ones(10_005, bool))
    assert everything_right is not None
    assert interval[0] == pytest.approx(everything_right[0], abs=0.01)
    assert everything_right[1] == 1


def test_balanced_accuracy_of_one_class_has_nearly_the_interval_of_its_share() -> None:
    interval = balanced_interval([0] * 200, np.arange(200) < 150)
    assert interval is not None
    assert list(interval) == pytest.approx(wilson(150, 200), abs=5e-4)


def balanced_covers(counts: np.ndarray, recalls: np.ndarray, generator: np.random.Generator) -> bool:
    """Whether the interval of random predictions has the true mean of the recalls."""
    truths = np.repeat(np.arange(len(counts)), counts)
    interval = balanced_interval(truths.tolist(), generator.random(len(truths)) < recalls[truths])
    assert interval is not None
    return bool(interval[0] <= recalls.mean() <= interval[1])


def balanced_coverage(classes: int, least: int, most: int, repetitions: int) -> float:
    """How often an interval has the true mean of the recalls, which are 0.6 to 0.95."""
    generator = np.random.default_rng(classes * most)
    return float(
        np.mean(
            [
                balanced_covers(
                    generator.integers(least, most + 1, classes), generator.uniform(0.6, 0.95, classes), generator
                )
                for _ in range(repetitions)
            ]
        )
    )


@pytest.mark.parametrize(("classes", "least", "most"), [(10, 5, 40), (50, 5, 40)])
def test_balanced_accuracy_interval_covers_it(classes: int, least: int, most: int) -> None:
    assert 0.93 <= balanced_coverage(classes, least, most, 1000) <= 0.975


@pytest.mark.parametrize(
    ("counts", "recalls"),
    [
        ([2000, 5], [0.99, 0.8]),
        ([500, 8], [0.97, 0.9]),
        ([300, 300, 5], [0.95, 0.95, 0.85]),
        ([200] * 9 + [6], [0.97] * 9 + [0.85]),
    ],
)
def test_balanced_accuracy_interval_covers_it_with_a_small_class(counts: list[int], recalls: list[float]) -> None:
    generator = np.random.default_rng(0)
    covered = [balanced_covers(np.array(counts), np.array(recalls), generator) for _ in range(2000)]
    assert 0.92 <= np.mean(covered) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 50])
@pytest.mark.parametrize(("least", "most"), [(5, 5), (5, 10), (5, 40), (40, 40)])
def test_balanced_accuracy_interval_covers_it_with_few_and_many_images(classes: int, least: int, most: int) -> None:
    assert 0.92 <= balanced_coverage(classes, least, most, 4000) <= 0.985


def answers(images: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Truths and given labels, images x 8; in hard images many answers are wrong."""
    truths = generator.random((images, 8)) < [0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.4]
    hard = generator.beta(0.6, 2, size=(images, 1))
    return truths, truths ^ (generator.random((images, 8)) < 0.35 * hard)


def parts_and_wholes(figure: str, truths: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is divided for a figure, by image."""
    hits = (truths & given).sum(axis=1)
    return {
        "answers right": ((truths == given).sum(axis=1), np.full(len(truths), 8)),
        "micro F1": (2 * hits, truths.sum(axis=1) + given.sum(axis=1)),
        "precision": (hits, given.sum(axis=1)),
    }[figure]


def covers(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval[0] <= value <= interval[1]


@pytest.mark.parametrize("figure", ["answers right", "micro F1", "precision"])
@pytest.mark.parametrize("images", [20, 200])
def test_intervals_by_image_cover_their_figure(figure: str, images: int) -> None:
    generator = np.random.default_rng(images)
    parts, wholes = parts_and_wholes(figure, *answers(200_000, generator))
    true = parts.sum() / wholes.sum()
    draws = [parts_and_wholes(figure, *answers(images, generator)) for _ in range(1000)]
    assert 0.925 <= np.mean([covers(ratio_interval(*each), true) for each in draws]) <= 0.98
    naive = np.mean([covers(wilson(parts.sum(), wholes.sum()), true) for parts, wholes in draws])
    assert naive < 0.93  # answers of one image are not independent


def test_images_that_are_all_right_count_as_one_trial_each() -> None:
    assert ratio_interval(np.full(20, 8), np.full(20, 8)) == wilson(20, 20)
    assert ratio_interval(np.zeros(20, int), np.full(20, 8)) == wilson(0, 20)
    assert ratio_interval(np.full(20, 4), np.full(20, 8)) is None  # no variance to tell from
    assert ratio_interval(np.array([8]), np.array([8])) is None
