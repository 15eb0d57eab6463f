"""Confidence intervals of figures that are no plain share of independent trials.

Each is Wilson's, for the number of independent trials that would have the variance of the figure. Simulations show that
it covers the true value more reliably than a bootstrap where images are few or nearly all right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.results.evaluation.calibration import Flags
from dinoclassify.types.share import Interval, wilson

ENOUGH = 5  # images of each class; of fewer, the variance is too uncertain

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClusteredShare:
    """``right`` of ``total`` answers, of which each image has several; the interval is by image.

    interval: None if there are too few images for one.
    """

    right: int
    total: int
    interval: Interval | None

    @property
    def value(self) -> float:
        """The share itself; NaN if ``total`` is 0."""
        return self.right / self.total if self.total else float("nan")


def balanced_interval(truths: Sequence[int], hits: Flags) -> Interval | None:
    """The 95 % interval of the mean recall; ``hits`` says whether the image of each of ``truths`` is right.

    None if a class has fewer than five images. A class that is all right may still be wrong at times, so its variance
    is that of one more right and one more wrong image. Small classes count: the interval is at least as wide as if all
    classes had the harmonic mean of the images.
    """
    classes, counts = np.unique(truths, return_inverse=True, return_counts=True)[1:]
    if not len(counts) or counts.min() < ENOUGH:
        return None
    right = np.bincount(classes, weights=hits)
    smoothed = (right + 1) / (counts + 2)
    variance = (smoothed * (1 - smoothed) / counts).sum() / len(counts) ** 2
    mean = float(smoothed.mean())
    trials = min(mean * (1 - mean) / float(variance), len(counts) ** 2 / float((1 / counts).sum()))
    return wilson(float((right / counts).mean()) * trials, trials)


def ratio_interval(parts: Counts, wholes: Counts) -> Interval | None:
    """The 95 % interval of the sum of ``parts`` over that of ``wholes``, both by image; None of fewer than two images.

    The variance is that of a ratio of sums (Cochran 1977, 6.4). Where all or no parts are right there is none: then
    each image counts as one trial.
    """
    images, part, whole = int((wholes > 0).sum()), int(parts.sum()), int(wholes.sum())
    if images < 2:
        return None
    ratio = part / whole
    if part in (0, whole):
        return wilson(ratio * images, images)
    variance = len(parts) / (len(parts) - 1) * float(((parts - ratio * wholes) ** 2).sum()) / whole**2
    return _wilson_of(ratio, variance, whole)


def _wilson_of(share: float, variance: float, most: int) -> Interval | None:
    """The interval of a share with this variance; it counts as at most ``most`` trials. None without a variance."""
    if not variance:
        return None
    trials = min(share * (1 - share) / variance, most)
    return wilson(share * trials, trials)
