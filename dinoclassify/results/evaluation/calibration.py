"""How well scores match accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15  # equal parts of the range of scores

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_CELLS = 100  # parts of a bin
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Bin:
    """The predictions with a score in (low, high]: how many, their mean score, and the share that is right.

    A prediction is the best label of an image; with many labels an image, each label of each image.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ErrorByChance:
    """The expected calibration error that a perfectly calibrated model with these scores shows at this number of them.

    An error below the 95th percentile may be noise. Predictions count as independent. With many labels an image they
    are not quite, and chance makes a somewhat larger error.
    """

    mean: float
    percentile95: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The expected calibration error, the mean score minus accuracy, and the error that chance alone makes."""

    bins: tuple[Bin, ...]
    error: float
    signed_error: float
    by_chance: ErrorByChance


def calibrate(scores: Scores, hits: Flags) -> Calibration | None:
    """Compare scores with accuracy; ``hits`` says whether the prediction of each score is right. None of no scores."""
    if not len(scores):
        return None
    bins = bin_scores(scores, hits)
    return Calibration(bins, _mean_error(bins), float(scores.mean() - hits.mean()), error_by_chance(scores))


def bin_scores(scores: Scores, hits: Flags) -> tuple[Bin, ...]:
    """The bins that are not empty; ``hits`` says whether the prediction of each score is right."""
    numbers = _bin_numbers(scores)
    bins = []
    for number in np.unique(numbers):
        inside = numbers == number
        score, accuracy = float(scores[inside].mean()), float(hits[inside].mean())
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(inside.sum()), score, accuracy))
    return tuple(bins)


def error_by_chance(scores: Scores) -> ErrorByChance:
    """Simulate predictions that are right as often as their scores say, and measure their calibration error.

    Scores in the same hundredth of a bin count as equal, so time and memory do not grow with their number.
    """
    numbers = _bin_numbers(scores)
    cells = numbers * _CELLS + np.clip(((scores * BINS - numbers) * _CELLS).astype(int), 0, _CELLS - 1)
    counts, sums = np.bincount(cells), np.bincount(cells, weights=scores)
    occupied = np.flatnonzero(counts)
    counts, sums = counts[occupied], sums[occupied]
    hits = np.random.default_rng(0).binomial(counts, np.minimum(sums / counts, 1), size=(_DRAWS, len(occupied)))
    starts = np.unique(occupied // _CELLS, return_index=True)[1]  # the first cell of each bin
    errors = np.abs(np.add.reduceat(hits - sums, starts, axis=1)).sum(axis=1) / len(scores)
    return ErrorByChance(float(errors.mean()), float(np.quantile(errors, 0.95)))


def _bin_numbers(scores: Scores) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(scores * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _mean_error(bins: Sequence[Bin]) -> float:
    """The mean distance of score and accuracy over the predictions."""
    return math.fsum(each.count * abs(each.score - each.accuracy) for each in bins) / sum(each.count for each in bins)
