"""What a threshold gains: the trade of precision and coverage, and a threshold for a wanted precision."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.results.evaluation.calibration import Flags, Scores
from dinoclassify.results.evaluation.intervals import ClusteredShare
from dinoclassify.types.share import Share

FOLDS = 10  # of the cross-fitting


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold tuned on all images, and the precision and coverage that it may be expected to have on others.

    precision and coverage are cross-fitted: each fold of the images is judged at the threshold tuned on the others.

    precision: the share of labels that are right among those whose score reaches the threshold.
    coverage: the share of images that get a label; with many labels an image, the share of true labels that are given.
    """

    threshold: float
    precision: Share | ClusteredShare
    coverage: float


@dataclass(frozen=True, slots=True)
class Curve:
    """For each distinct score, descending: the coverage at that threshold, and the share of labels that are right.

    For what coverage means see `Threshold`.
    """

    scores: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Coverage and accuracy at a threshold; None if no score reaches it."""
        reached = int((self.scores >= threshold).sum())
        return (float(self.coverage[reached - 1]), float(self.accuracy[reached - 1])) if reached else None


def trace(scores: Scores, hits: Flags, wanted: int | None = None) -> Curve:
    """The curve over all thresholds; ``hits`` says whether the prediction of each score is right.

    Coverage is the share of scores that reach the threshold or, of ``wanted`` hits, the share that does.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])  # last of equal scores
    counts, right = ends + 1, np.cumsum(hits[order])[ends]
    coverage = counts / max(len(scores), 1) if wanted is None else right / max(wanted, 1)
    return Curve(scores[order][ends], coverage, right / counts)


def suggest_threshold(curve: Curve, target: float, least: float = 0.0) -> float | None:
    """The threshold with the highest coverage at which at least ``target`` of the labels are right, or None.

    It is the shortest decimal that separates the same scores, or ``least`` if it need not separate any.
    """
    enough = np.flatnonzero(curve.accuracy >= target)
    if not len(enough):
        return None
    last = int(enough[-1])
    is_lowest = last + 1 == len(curve.scores)
    return least if is_lowest else _shortest(curve.scores[last + 1], curve.scores[last])


def cross_fit(
    scores: Scores, hits: Flags, images: npt.NDArray[np.int64], target: float, least: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Which scores reach the threshold that `suggest_threshold` makes of the images of the other folds.

    ``images`` has the number of the image of each score. Where no threshold of the others reaches the target, no score
    reaches it.
    """
    count = int(images.max(initial=-1)) + 1
    folds = np.random.default_rng(0).permutation(count) % FOLDS
    reached = np.zeros(len(scores), bool)
    for fold in range(min(FOLDS, count)):
        judged = folds[images] == fold
        threshold = suggest_threshold(trace(scores[~judged], hits[~judged]), target, least)
        if threshold is not None:
            reached |= judged & (scores >= threshold)
    return reached


def _shortest(low: float, high: float) -> float:
    """The shortest decimal in (low, high]."""
    rounded = (math.floor(high * 10**digits) / 10**digits for digits in range(1, 17))
    return next((short for short in rounded if low < short <= high), float(high))
