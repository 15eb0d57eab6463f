"""How far scores can be trusted, and what a threshold buys."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.types.share import Share

BINS = 15  # of the scores

Scores = npt.NDArray[np.float64]  # one dimension
Hits = npt.NDArray[np.bool_]  # as long: whether what has the score is right


@dataclass(frozen=True, slots=True)
class Bin:
    """The images with a best score in (low, high], their mean score, and the share that was right.

    With many labels an image: the answers, one a label and image, and the share of those that are true.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is left when scores below ``threshold`` are called uncertain, and how much of that is right."""

    threshold: float
    precision: Share
    coverage: float


@dataclass(frozen=True, slots=True)
class Curve:
    """At each score that occurs, from high to low: the share of images that reach it, and of those that are right."""

    scores: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Coverage and accuracy of the images that reach a threshold, if there are any."""
        reached = int((self.scores >= threshold).sum())
        return (float(self.coverage[reached - 1]), float(self.accuracy[reached - 1])) if reached else None


def bin_scores(scores: Scores, hits: Hits) -> tuple[Bin, ...]:
    """Those that have images."""
    numbers = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for number in np.unique(numbers):
        here = numbers == number
        score, accuracy = float(scores[here].mean()), float(hits[here].mean())
        found.append(Bin(number / BINS, (number + 1) / BINS, int(here.sum()), score, accuracy))
    return tuple(found)


def mean_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: how far the scores are from the share that is right."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.score - one.accuracy) for one in bins) / total if total else math.nan


def trace(scores: Scores, hits: Hits) -> Curve:
    """The curve over all thresholds."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])  # the last of equal scores
    counts = ends + 1
    return Curve(scores[order][ends], counts / max(len(scores), 1), np.cumsum(hits[order])[ends] / counts)


def suggest_threshold(curve: Curve, total: int, target: float) -> Threshold | None:
    """The threshold that calls the fewest images uncertain while ``target`` of the others are right, or None.

    It is the shortest decimal that parts the images as the score does.
    """
    enough = np.flatnonzero(curve.accuracy >= target)
    if not len(enough):
        return None
    last = int(enough[-1])
    kept = round(curve.coverage[last] * total)
    right = round(curve.accuracy[last] * kept)
    threshold = _shortest(curve.scores[last + 1], curve.scores[last]) if kept < total else 0.0
    return Threshold(threshold, Share(right, kept), kept / total)


def _shortest(low: float, high: float) -> float:
    """The shortest decimal in (low, high]."""
    rounded = (math.floor(high * 10**digits) / 10**digits for digits in range(1, 17))
    return next((short for short in rounded if low < short <= high), high)
