"""How well scores match accuracy, and what a threshold gains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.types.share import Share

BINS = 15  # equal parts of the range of scores

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


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
class Threshold:
    """The precision and coverage of the images whose score reaches ``threshold``; the others are uncertain."""

    threshold: float
    precision: Share
    coverage: float


@dataclass(frozen=True, slots=True)
class Curve:
    """For each distinct score, descending: the share of images that reach it, and the share of these that is right."""

    scores: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Coverage and accuracy at a threshold; None if no image reaches it."""
        reached = int((self.scores >= threshold).sum())
        return (float(self.coverage[reached - 1]), float(self.accuracy[reached - 1])) if reached else None


def bin_scores(scores: Scores, hits: Flags) -> tuple[Bin, ...]:
    """The bins that are not empty; ``hits`` says whether the prediction of each score is right."""
    numbers = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for number in np.unique(numbers):
        inside = numbers == number
        score, accuracy = float(scores[inside].mean()), float(hits[inside].mean())
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(inside.sum()), score, accuracy))
    return tuple(bins)


def mean_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: the mean distance of score and accuracy; NaN of no bins."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.score - each.accuracy) for each in bins) / total if total else math.nan


def trace(scores: Scores, hits: Flags) -> Curve:
    """The curve over all thresholds; ``hits`` says whether the prediction of each score is right."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])  # last of equal scores
    counts = ends + 1
    return Curve(scores[order][ends], counts / max(len(scores), 1), np.cumsum(hits[order])[ends] / counts)


def suggest_threshold(curve: Curve, total: int, target: float) -> Threshold | None:
    """The threshold with the highest coverage at which at least ``target`` of the labels are right, or None.

    It is the shortest decimal that separates the same images.
    """
    enough = np.flatnonzero(curve.accuracy >= target)
    if not len(enough):
        return None
    last = int(enough[-1])
    covered = round(curve.coverage[last] * total)
    right = round(curve.accuracy[last] * covered)
    threshold = _shortest(curve.scores[last + 1], curve.scores[last]) if covered < total else 0.0
    return Threshold(threshold, Share(right, covered), covered / total)


def _shortest(low: float, high: float) -> float:
    """The shortest decimal in (low, high]."""
    rounded = (math.floor(high * 10**digits) / 10**digits for digits in range(1, 17))
    return next((short for short in rounded if low < short <= high), high)
