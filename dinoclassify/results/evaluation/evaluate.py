"""Predictions and true classes -> figures, of images with one true class each or with any number of them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dinoclassify.errors import UsageError
from dinoclassify.results.evaluation.calibration import (
    Bin,
    Curve,
    Flags,
    Scores,
    Threshold,
    bin_scores,
    mean_error,
    suggest_threshold,
    trace,
)
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.share import Interval, Share

MOST_MISTAKES = 20  # the most confident ones
RESAMPLES = 1000  # of the bootstrap
ENOUGH = 5  # images of a class, on average: with fewer, bootstrap intervals are too narrow
YES = 0.5  # the least score of a predicted label, with many labels an image

LabelledPrediction = tuple[Prediction, tuple[int, ...]]  # with the indices of the image's true classes


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: how many images have it, how many are predicted to have it, and how well the two agree."""

    label: str
    index: int
    pictures: int  # the key that the JSON and CSV have for the number of images
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image whose best label is wrong: the indices of its true classes, and the predicted one."""

    path: str
    truth: tuple[int, ...]
    predicted: int
    score: float


@dataclass(frozen=True, slots=True)
class MultiLabelFigures:
    """Figures that exist only with many labels an image; a label is predicted from a score of 0.5 up.

    exact: images whose predicted labels are exactly their true ones.
    micro_f1: F1 over all pairs of an image and a label.
    mean_average_precision: the mean over the labels that some image has.
    """

    exact: Share
    micro_f1: float
    mean_average_precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """The figures whose computation depends on the task, single-label or multi-label.

    classes: the classes that some image has.
    bins: scores of the best labels; with many labels an image, the scores of all labels.
    confusions: the number of images of each (true, predicted) pair of class indices; empty with many labels an image.
    balanced_accuracy: the mean recall of the classes; None with many labels an image.
    balanced_interval: its 95 % confidence interval; None if the images are too few for one.
    """

    classes: tuple[ClassFigures, ...]
    bins: tuple[Bin, ...]
    confusions: Mapping[tuple[int, int], int]
    balanced_accuracy: float | None = None
    balanced_interval: Interval | None = None
    multi_label: MultiLabelFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(TaskFigures):
    """All figures. Failed images count in ``failed`` only.

    labels: the class names, by index.
    top1: images whose best label is a true one.
    top5: images with a true label among the best five; None if fewer than five are known or five are all there are.
    macro_f1: the mean F1 of the classes.
    calibration_error: the expected calibration error, over ``bins``.
    mistakes: the most confident ones first.
    suggested: the threshold for ``target_precision``; None if no target was set or no threshold reaches it.
    """

    labels: Sequence[str]
    top1: Share
    top5: Share | None
    macro_f1: float
    calibration_error: float
    failed: int
    mistakes: tuple[Mistake, ...]
    curve: Curve
    target_precision: float | None
    suggested: Threshold | None


def evaluate(
    predictions: Iterable[LabelledPrediction],
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    target_precision: float | None = None,
) -> Evaluation:
    """Compare predictions with the true classes of their images; ``labels`` are the class names, by index.

    With ``multi_label`` an image has any number of true classes, and a prediction must have the scores of all classes.
    For ``target_precision``, the share of best labels that should be right, a threshold is suggested.

    Raises:
        UsageError: ``multi_label``, and a prediction lacks scores.
    """
    rows = list(predictions)
    labelled = [(row, truths) for row, truths in rows if row.top]
    scores = np.array([row.top[0].score for row, _ in labelled])
    hits = np.array([row.top[0].index in truths for row, truths in labelled], bool)
    curve = trace(scores, hits)
    figures = _multi_label(labelled, labels) if multi_label else _single_label(labelled, scores, hits, labels)
    return Evaluation(
        labels=labels,
        top1=Share(int(hits.sum()), len(labelled)),
        top5=_top5(labelled, len(labels)),
        balanced_accuracy=figures.balanced_accuracy,
        balanced_interval=figures.balanced_interval,
        macro_f1=_mean(each.f1 for each in figures.classes),
        calibration_error=mean_error(figures.bins),
        failed=len(rows) - len(labelled),
        classes=figures.classes,
        bins=figures.bins,
        confusions=figures.confusions,
        mistakes=_mistakes(labelled, hits),
        curve=curve,
        multi_label=figures.multi_label,
        target_precision=target_precision,
        suggested=None if target_precision is None else suggest_threshold(curve, len(labelled), target_precision),
    )


def _top5(labelled: Sequence[LabelledPrediction], classes: int) -> Share | None:
    """The images with a true label among the best five; None if that is not known or always so."""
    ranks = min((len(row.top) for row, _ in labelled), default=0)
    if not ranks >= 5 < classes:
        return None
    hits = sum(any(label.index in truths for label in row.top[:5]) for row, truths in labelled)
    return Share(hits, len(labelled))


def _mistakes(labelled: Sequence[LabelledPrediction], hits: Flags) -> tuple[Mistake, ...]:
    mistakes = [
        Mistake(row.path, truths, row.top[0].index, row.top[0].score)
        for (row, truths), hit in zip(labelled, hits, strict=True)
        if not hit
    ]
    return tuple(sorted(mistakes, key=lambda mistake: -mistake.score)[:MOST_MISTAKES])


def _single_label(
    predictions: Sequence[LabelledPrediction], scores: Scores, hits: Flags, labels: Sequence[str]
) -> TaskFigures:
    """The figures of images with one true class each; ``scores`` and ``hits`` are of the best labels."""
    pairs = [(truths[0], row.top[0].index) for row, truths in predictions]
    right = Counter(truth for truth, guess in pairs if truth == guess)
    truths = [truth for truth, _ in pairs]
    classes = _class_figures(labels, Counter(truths), Counter(guess for _, guess in pairs), right)
    return TaskFigures(
        classes=classes,
        bins=bin_scores(scores, hits),
        confusions=dict(Counter(pairs)),
        balanced_accuracy=_mean(figures.recall for figures in classes),
        balanced_interval=_balanced_interval(truths, hits),
    )


def _class_figures(
    labels: Sequence[str], images: Mapping[int, int], predicted: Mapping[int, int], hits: Mapping[int, int]
) -> tuple[ClassFigures, ...]:
    """The figures of each class that some image has, from the numbers of images by class."""
    return tuple(
        ClassFigures(
            labels[index],
            index,
            images[index],
            predicted[index],
            precision=hits[index] / predicted[index] if predicted[index] else 0.0,
            recall=hits[index] / images[index],
            f1=2 * hits[index] / (images[index] + predicted[index]),
        )
        for index in sorted(images)
        if images[index]
    )


def _balanced_interval(truths: Sequence[int], hits: Flags) -> Interval | None:
    """The 95 % bootstrap interval of the mean recall: images are resampled with replacement.

    None where it would claim too much: with few images a class, and where all or no predictions are right.
    """
    names, classes = np.unique(truths, return_inverse=True)
    if len(truths) < ENOUGH * len(names) or hits.all() or not hits.any():
        return None
    generator, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        sample = generator.integers(0, len(classes), len(classes))
        images = np.bincount(classes[sample])
        right = np.bincount(classes[sample], weights=hits[sample], minlength=len(images))
        means.append(float((right[images > 0] / images[images > 0]).mean()))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _multi_label(predictions: Sequence[LabelledPrediction], labels: Sequence[str]) -> TaskFigures:
    """The figures of images with any number of true classes: each class of each image is a yes or no."""
    scores, truths = _as_arrays(predictions, len(labels))
    predicted = scores >= YES
    counts = [dict(enumerate(each.sum(axis=0).tolist())) for each in (truths, predicted, truths & predicted)]
    return TaskFigures(
        classes=_class_figures(labels, *counts),
        bins=bin_scores(scores.ravel(), truths.ravel()),
        confusions={},
        multi_label=_overall(scores, truths, predicted),
    )


def _as_arrays(predictions: Sequence[LabelledPrediction], classes: int) -> tuple[Scores, Flags]:
    """Scores and truths, both images x classes."""
    scores, truths = np.zeros((len(predictions), classes)), np.zeros((len(predictions), classes), bool)
    for number, (row, true_classes) in enumerate(predictions):
        if len(row.top) < classes:
            needed = f"--multi-label needs all, run predict with --top-k {classes} --threshold 0"
            raise UsageError(f"{row.path} has {len(row.top)} of {classes} scores: {needed}")
        scores[number, [label.index for label in row.top]] = [label.score for label in row.top]
        truths[number, list(true_classes)] = True
    return scores, truths


def _overall(scores: Scores, truths: Flags, predicted: Flags) -> MultiLabelFigures:
    exact = Share(int((predicted == truths).all(axis=1).sum()), len(truths))
    positives = int(predicted.sum() + truths.sum())
    micro_f1 = 2 * int((predicted & truths).sum()) / positives if positives else math.nan
    occurring = truths.any(axis=0)
    precisions = [_average_precision(*column) for column in zip(scores.T[occurring], truths.T[occurring], strict=True)]
    return MultiLabelFigures(exact, micro_f1, _mean(precisions))


def _average_precision(scores: Scores, truths: Flags) -> float:
    """The mean of the precision at each true image, by descending score; equal scores count as the last of them."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right")  # how many images reach each score
    hits = np.cumsum(truths[order])
    return float((hits[ends - 1] / ends)[truths[order]].mean())


def _mean(values: Iterable[float]) -> float:
    """The mean; NaN of no values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan
