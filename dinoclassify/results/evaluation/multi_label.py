"""The figures of images with any number of true classes: each class of each image is a yes or no."""

import math
from collections.abc import Sequence

import numpy as np

from dinoclassify.errors import UsageError
from dinoclassify.results.evaluation.calibration import Flags, Scores, bin_scores
from dinoclassify.results.evaluation.figures import (
    ClassFigures,
    LabelledPrediction,
    MultiLabelFigures,
    TaskFigures,
    mean,
)
from dinoclassify.types.share import Share

YES = 0.5  # the least score of a predicted label


def multi_label_figures(predictions: Sequence[LabelledPrediction], labels: Sequence[str]) -> TaskFigures:
    """The figures of predictions that each have the scores of all classes.

    Raises:
        UsageError: a prediction lacks scores.
    """
    scores, truths = _as_arrays(predictions, len(labels))
    return TaskFigures(
        classes=_class_figures(scores, truths, labels),
        bins=bin_scores(scores.ravel(), truths.ravel()),
        confusions={},
        multi_label=_overall(scores, truths),
    )


def _as_arrays(predictions: Sequence[LabelledPrediction], classes: int) -> tuple[Scores, Flags]:
    """Scores and truths, both images x classes."""
    scores, truths = np.zeros((len(predictions), classes)), np.zeros((len(predictions), classes), bool)
    for number, (row, true_classes) in enumerate(predictions):
        if len(row.top) < classes:
            needed = f"of many labels all are needed, --top-k {classes}"
            raise UsageError(f"{row.path} has {len(row.top)} of {classes} scores: {needed}")
        scores[number, [label.index for label in row.top]] = [label.score for label in row.top]
        truths[number, list(true_classes)] = True
    return scores, truths


def _class_figures(scores: Scores, truths: Flags, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """The figures of each class that some image has."""
    predicted = scores >= YES
    return tuple(
        ClassFigures.count(
            labels[index],
            index,
            images=int(truths[:, index].sum()),
            predicted=int(predicted[:, index].sum()),
            hits=int((truths & predicted)[:, index].sum()),
        )
        for index in np.flatnonzero(truths.any(axis=0)).tolist()
    )


def _overall(scores: Scores, truths: Flags) -> MultiLabelFigures:
    predicted = scores >= YES
    exact = Share(int((predicted == truths).all(axis=1).sum()), len(truths))
    positives = int(predicted.sum() + truths.sum())
    micro_f1 = 2 * int((predicted & truths).sum()) / positives if positives else math.nan
    occurring = truths.any(axis=0)
    precisions = [_average_precision(*column) for column in zip(scores.T[occurring], truths.T[occurring], strict=True)]
    return MultiLabelFigures(exact, micro_f1, mean(precisions))


def _average_precision(scores: Scores, truths: Flags) -> float:
    """The mean of the precision at each true image, by descending score; equal scores count as the last of them."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right")  # how many images reach each score
    hits = np.cumsum(truths[order])
    return float((hits[ends - 1] / ends)[truths[order]].mean())
