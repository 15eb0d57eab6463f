"""Predictions and the truth -> how good they are, and how sure that is."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.errors import UsageError
from dinoclassify.results.evaluation.calibration import (
    Bin,
    Curve,
    Threshold,
    bin_scores,
    mean_error,
    suggest_threshold,
    trace,
)
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.share import Interval, Share

RESAMPLES = 1000  # of the images, for the interval of a mean of recalls
ENOUGH = 5  # images of a class, on average: with fewer the bootstrap gives intervals that are too narrow
YES = 0.5  # the least score of a label that is given, where there may be many
MOST_MISTAKES = 20  # that are kept, the most confident ones

LabelledPrediction = tuple[Prediction, tuple[int, ...]]  # and the true classes of the image

_Scores = npt.NDArray[np.float64]
_Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How one class did: of those that were taken for it, and of those that are it."""

    label: str
    index: int
    images: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image whose best label is wrong: its true classes, and the one it was taken for, by index."""

    path: str
    truth: tuple[int, ...]
    predicted: int
    score: float


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """Of images that may have many labels, each a yes from a score of 0.5 up.

    ``exact`` is how many images have all answers right, ``micro_f1`` is over all answers of all images, and
    ``mean_average_precision`` the mean over the labels that occur.
    """

    exact: Share
    micro_f1: float
    mean_average_precision: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures. Images that failed are in ``failed`` alone.

    labels: the names of the classes, by index.
    top1: images whose best label is one of theirs.
    top5: those that have one among the best five, if as many are known of each, and there are more.
    balanced_accuracy: the mean recall of the classes; with an interval if they have images enough for one.
    calibration_error: expected, over ``bins``; with many labels an image both are of all answers.
    confusions: how many there are of each (true, predicted) pair of classes, by index.
    suggested: the threshold for ``target_precision``, if there is one.
    """

    labels: Sequence[str]
    top1: Share
    top5: Share | None
    balanced_accuracy: float | None
    balanced_interval: Interval | None
    macro_f1: float
    calibration_error: float
    failed: int
    classes: tuple[ClassFigures, ...]
    bins: tuple[Bin, ...]
    confusions: Mapping[tuple[int, int], int]
    mistakes: tuple[Mistake, ...]
    curve: Curve
    multi_label: MultiLabel | None
    target_precision: float | None
    suggested: Threshold | None


def evaluate(
    answers: Iterable[LabelledPrediction],
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    target_precision: float | None = None,
) -> Evaluation:
    """Compare predictions with the true classes of their images.

    Args:
        answers: each prediction, and the true class of its image; with ``multi_label`` any number of them, and the
            prediction has the scores of all classes.
        labels: the name of each class, by index.
        multi_label: an image may have many labels; ``classes`` then are of yes and no, and nothing is confused.
        target_precision: the share of best labels to be right, for which a threshold is suggested.
    """
    given = list(answers)
    answered = [(row, truths) for row, truths in given if row.top]
    scores = np.array([row.top[0].score for row, _ in answered])
    hits = np.array([row.top[0].index in truths for row, truths in answered], bool)
    in_five = sum(any(label.index in truths for label in row.top[:5]) for row, truths in answered)
    ranks = min((len(row.top) for row, _ in answered), default=0)
    mistakes = [
        Mistake(row.path, truths, row.top[0].index, row.top[0].score)
        for (row, truths), hit in zip(answered, hits, strict=True)
        if not hit
    ]
    curve = trace(scores, hits)
    if multi_label:
        pairs: list[tuple[int, int]] = []
        all_scores, all_truths = _all_answers(answered, len(labels))
        classes = _judge_labels(all_scores, all_truths, labels)
        bins = bin_scores(all_scores.ravel(), all_truths.ravel())
    else:
        pairs = [(truths[0], row.top[0].index) for row, truths in answered]
        classes, bins = _judge_classes(pairs, labels), bin_scores(scores, hits)
    return Evaluation(
        labels=labels,
        top1=Share(int(hits.sum()), len(answered)),
        top5=Share(in_five, len(answered)) if ranks >= 5 < len(labels) else None,
        balanced_accuracy=None if multi_label else _mean(one.recall for one in classes),
        balanced_interval=None if multi_label else _resampled([truth for truth, _ in pairs], hits),
        macro_f1=_mean(one.f1 for one in classes),
        calibration_error=mean_error(bins),
        failed=len(given) - len(answered),
        classes=classes,
        bins=bins,
        confusions=dict(Counter(pairs)),
        mistakes=tuple(sorted(mistakes, key=lambda one: -one.score)[:MOST_MISTAKES]),
        curve=curve,
        multi_label=_judge_many(all_scores, all_truths) if multi_label else None,
        target_precision=target_precision,
        suggested=None if target_precision is None else suggest_threshold(curve, len(answered), target_precision),
    )


def _judge_classes(pairs: Sequence[tuple[int, int]], labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Each class that is true of some image."""
    truths, predicted = Counter(truth for truth, _ in pairs), Counter(guess for _, guess in pairs)
    hits = Counter(truth for truth, guess in pairs if truth == guess)
    return tuple(
        _class_figures(labels[index], index, images=truths[index], predicted=predicted[index], hits=hits[index])
        for index in sorted(truths)
    )


def _judge_labels(scores: _Scores, truths: _Truths, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Each class that is true of some image, answered with a yes from a score of 0.5 up."""
    yes = scores >= YES
    return tuple(
        _class_figures(
            labels[index],
            index,
            images=int(truths[:, index].sum()),
            predicted=int(yes[:, index].sum()),
            hits=int((truths & yes)[:, index].sum()),
        )
        for index in np.flatnonzero(truths.any(axis=0)).tolist()
    )


def _class_figures(label: str, index: int, *, images: int, predicted: int, hits: int) -> ClassFigures:
    precision, recall = hits / predicted if predicted else 0.0, hits / images
    f1 = 2 * hits / (images + predicted)
    return ClassFigures(label, index, images, predicted, precision, recall, f1)


def _judge_many(scores: _Scores, truths: _Truths) -> MultiLabel:
    yes = scores >= YES
    occurring = truths.any(axis=0)
    precisions = [_average_precision(*column) for column in zip(scores.T[occurring], truths.T[occurring], strict=True)]
    exact = Share(int((yes == truths).all(axis=1).sum()), len(truths))
    answered = int(yes.sum() + truths.sum())
    micro_f1 = 2 * int((yes & truths).sum()) / answered if answered else math.nan
    return MultiLabel(exact, micro_f1, _mean(precisions))


def _all_answers(answered: Sequence[LabelledPrediction], classes: int) -> tuple[_Scores, _Truths]:
    """Scores and truths, images x classes."""
    scores, true = np.zeros((len(answered), classes)), np.zeros((len(answered), classes), bool)
    for number, (row, truths) in enumerate(answered):
        if len(row.top) < classes:
            needed = f"of many labels all are needed, --top-k {classes}"
            raise UsageError(f"{row.path} has {len(row.top)} of {classes} scores: {needed}")
        scores[number, [label.index for label in row.top]] = [label.score for label in row.top]
        true[number, list(truths)] = True
    return scores, true


def _average_precision(scores: npt.NDArray[np.float64], truths: npt.NDArray[np.bool_]) -> float:
    """The mean of the precision at each true image, from the best score down; of equal scores the last counts."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right")  # how many reach each score
    hits = np.cumsum(truths[order])
    return float((hits[ends - 1] / ends)[truths[order]].mean())


def _resampled(truths: Sequence[int], hits: npt.NDArray[np.bool_]) -> Interval | None:
    """The interval of the mean recall by bootstrap: drawing as many images, with repetition, again and again.

    None where that would say too much: of few images, and of those that are all alike.
    """
    names, classes = np.unique(truths, return_inverse=True)
    if len(truths) < ENOUGH * len(names) or hits.all() or not hits.any():
        return None
    generator, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, len(classes), len(classes))
        images = np.bincount(classes[drawn])
        right = np.bincount(classes[drawn], weights=hits[drawn], minlength=len(images))
        means.append(float((right[images > 0] / images[images > 0]).mean()))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan
