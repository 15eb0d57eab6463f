"""Predictions for held-out images -> scores of methods, and whether two of them really differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import Integers
from dinoclassify.types.share import Interval, wilson

with needs_train_extra():
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score

T = TypeVar("T")

_SURE = 0.05  # the p-value below which a difference counts, as outside a 95 % interval


@dataclass(frozen=True, slots=True)
class Outcome:
    """How right a method is: ``right`` is repetitions x images, from 0 to 1, NaN where it was not asked.

    With many labels an image, ``right`` is the share of its labels. ``f1`` is the mean F1 of the classes.
    """

    right: npt.NDArray[np.float64]
    f1: float


@dataclass(frozen=True, slots=True)
class Score:
    """A method's score on images that it has not seen.

    accuracy: the share of right predictions, of all repetitions. With many labels an image, each label of each image
        is a prediction of its own.
    images: how many were judged.
    trials: how many independent images they are worth; copies of an image, and a group of images, count as one.
    f1: the mean F1 of the classes.
    gain: the accuracy beyond that of the head.
    head_only, this_only: in the first repetition, the units where only the head is right, and where only this method
        is; with several predictions a unit, where one has more right.
    """

    accuracy: float
    images: int
    trials: float
    f1: float
    gain: float = 0.0
    head_only: int = 0
    this_only: int = 0

    @property
    def interval(self) -> Interval:
        """The 95 % interval after Wilson."""
        return wilson(self.accuracy * self.trials, self.trials)

    @property
    def p_value(self) -> float:
        """The exact McNemar test: how likely it is that two equally good methods differ by as much."""
        differing = self.head_only + self.this_only
        return float(binomtest(self.head_only, differing).pvalue) if differing else 1.0

    @property
    def beats_head(self) -> bool:
        """Whether this method is better than the head beyond noise."""
        return self.gain > 0 and self.this_only > self.head_only and self.p_value < _SURE

    @property
    def loses_to_head(self) -> bool:
        """Whether the head is better than this method beyond noise."""
        return self.gain < 0 and self.head_only > self.this_only and self.p_value < _SURE


def outcome_of(classes: Integers, predictions: Sequence[Integers], f1_of: Sequence[int] | None = None) -> Outcome:
    """The outcome of predicted classes, one array a repetition, -1 where none is predicted.

    F1 is the mean over the classes ``f1_of``, or over all.
    """
    right, scores = [], []
    for predicted in predictions:
        judged = predicted >= 0
        right.append(np.where(judged, predicted == classes, np.nan))
        scores.append(f1_score(classes[judged], predicted[judged], labels=f1_of, average="macro", zero_division=0))
    return Outcome(np.stack(right), float(np.mean(scores)))


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome over several labels of the same images."""
    right = np.stack([outcome.right for outcome in outcomes])
    judged = ~np.isnan(right)
    with np.errstate(invalid="ignore"):  # an image that no label was judged on
        mean = np.where(judged, right, 0).sum(axis=0) / judged.sum(axis=0)
    return Outcome(mean, float(np.mean([outcome.f1 for outcome in outcomes])))


def compare(outcomes: Mapping[T, Outcome], units: Integers) -> dict[T, Score]:
    """The score of each method; the first one is the head, with which the others are compared."""
    head, *_ = outcomes.values()
    return {method: _score(outcome, head, units) for method, outcome in outcomes.items()}


def _score(outcome: Outcome, head: Outcome, units: Integers) -> Score:
    judged = ~np.isnan(outcome.right).all(axis=0)
    difference = head.right[0] - outcome.right[0]
    both = ~np.isnan(difference)
    by_unit = np.bincount(units[both], weights=difference[both])
    accuracy = float(np.nanmean(outcome.right))
    return Score(
        accuracy=accuracy,
        images=int(judged.sum()),
        trials=_trials(units[judged]),
        f1=outcome.f1,
        gain=accuracy - float(np.nanmean(head.right[:, judged])),
        head_only=int((by_unit > 1e-9).sum()),
        this_only=int((by_unit < -1e-9).sum()),
    )


def _trials(units: Integers) -> float:
    """The effective number of images if those of a unit are all right or all wrong (Kish 1965)."""
    sizes = np.bincount(units)
    return float(sizes.sum() ** 2 / (sizes**2).sum())
