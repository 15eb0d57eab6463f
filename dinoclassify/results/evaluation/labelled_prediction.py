"""A row and the true classes of its image: what is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from dinoclassify.types.prediction import Label, Prediction

YES = 0.5  # the least score of a label that is given, with many labels an image, where nobody says otherwise
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
    threshold: float = YES
    missing: int = 0
    extra: int = 0


def with_truth(row: Prediction, truth: int, classes: int) -> LabelledPrediction:
    """A row of an image with one true class; ``classes`` is the number of all classes.

    The row keeps the best five labels, so that memory does not grow with the number of classes.
    """
    losses = _losses(row.top, truth) if row.top and len(row.top) == classes else None
    return LabelledPrediction(replace(row, top=row.top[:RANKS]), (truth,), losses)


def _losses(labels: Sequence[Label], truth: int) -> Losses:
    of_truth = next((label.score for label in labels if label.index == truth), 0.0)
    squares = sum(label.score * label.score for label in labels)
    clipped = min(max(of_truth, LEAST), 1 - LEAST)
    return Losses(-log(clipped), squares - 2 * of_truth + 1)
