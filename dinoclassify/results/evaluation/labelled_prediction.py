"""A row and the true classes of its image: what is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from dinoclassify.types.prediction import LIKELY, Prediction

Scores = npt.NDArray[np.floating[Any]]

RANKS = 5  # labels of an image with one true class, for top-5
LEAST = 2.0**-23  # probabilities are clipped here for the log loss: the spacing of float32 at 1, as in scikit-learn


@dataclass(frozen=True, slots=True)
class Losses:
    """What an image with one true class adds to the log loss and to the Brier score, before the mean is taken."""

    log: float
    brier: float


@dataclass(frozen=True, slots=True)
class LabelledPrediction:
    """A row with the indices of the true classes of its image.

    losses: of an image with one true class; None unless the scores of all classes are known.
    """

    row: Prediction
    truths: tuple[int, ...]
    losses: Losses | None = None


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Rows with their true classes, and the names of the classes, by index.

    multi_label: an image has any number of true classes.
    threshold: with ``multi_label``, the score from which a label is given. A row must have the scores from there on,
        and one that it lacks counts as lower.
    missing: labelled images without a row.
    extra: rows of images without a label, which are not among ``rows``.
    """

    rows: list[LabelledPrediction]
    labels: Sequence[str]
    multi_label: bool = False
    threshold: float = LIKELY
    missing: int = 0
    extra: int = 0


def with_truth(row: Prediction, truth: int, scores: Scores | None) -> LabelledPrediction:
    """A row of an image with one true class; ``scores`` are those of all classes, by index, None if unknown.

    The row keeps the best five labels, so that memory does not grow with the number of classes.
    """
    losses = _losses(scores, truth) if scores is not None else None
    return LabelledPrediction(replace(row, top=row.top[:RANKS]), (truth,), losses)


def scores_in(row: Prediction, classes: int) -> Scores | None:
    """The scores in a row, by index; None unless it has those of all classes, of which there are ``classes``."""
    if not row.top or len(row.top) != classes:
        return None
    scores = np.zeros(max(classes, 1 + max(label.index for label in row.top)))
    scores[[label.index for label in row.top]] = [label.score for label in row.top]
    return scores


def _losses(scores: Scores, truth: int) -> Losses:
    of_truth = float(scores[truth]) if truth < len(scores) else 0.0
    clipped = min(max(of_truth, LEAST), 1 - LEAST)
    return Losses(-log(clipped), float(scores @ scores) - 2 * of_truth + 1)
