"""Predictions and the truth -> how good they are, and how sure that is."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.errors import UsageError
from dinoclassify.rows import Prediction
from dinoclassify.statistics import wilson

BINS = 15  # of the scores, for calibration
RESAMPLES = 1000  # of the pictures, for the interval of a mean of recalls
YES = 0.5  # the least score of a label that is given, where there may be many
MOST_MISTAKES = 20  # that are kept, the most confident ones

Interval = tuple[float, float]  # 95 %


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with its 95 % confidence interval after Wilson."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; NaN of nothing."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> Interval:
        """Where it would be, with 95 % confidence, of many more pictures."""
        return wilson(self.right, self.total)


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How one class did: of those that were taken for it, and of those that are it."""

    label: str
    index: int
    pictures: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The pictures with a best score in (low, high], their mean score, and how many were right."""

    low: float
    high: float
    pictures: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture whose best label is wrong."""

    path: str
    truth: str
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is left when scores below ``threshold`` are called uncertain, and how much of that is right."""

    threshold: float
    precision: Share
    coverage: float


@dataclass(frozen=True, slots=True)
class Curve:
    """At each score that occurs, from high to low: the share of pictures that reach it, and of those that are right."""

    scores: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Coverage and accuracy of the pictures that reach a threshold, if there are any."""
        reached = int((self.scores >= threshold).sum())
        return (float(self.coverage[reached - 1]), float(self.accuracy[reached - 1])) if reached else None


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """Of pictures that may have many labels, each a yes from a score of 0.5 up.

    ``exact`` is how many pictures have all answers right, ``micro_f1`` is over all answers of all pictures, and
    ``mean_average_precision`` the mean over the labels that occur.
    """

    exact: Share
    micro_f1: float
    mean_average_precision: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures. Pictures that failed are in ``failed`` alone.

    ``top1`` counts pictures whose best label is one of theirs, ``top5`` those that have one among the best five, if
    as many are known. ``confusions`` counts (true, predicted) classes, by index. ``suggested`` is the threshold for
    ``target_precision``, if there is one.
    """

    labels: Sequence[str]
    top1: Share
    top5: Share | None
    balanced_accuracy: float
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
    answers: Iterable[tuple[Prediction, tuple[int, ...]]],
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    target_precision: float | None = None,
) -> Evaluation:
    """Compare predictions with the true classes of their pictures.

    Args:
        answers: each prediction, and the true class of its picture; with ``multi_label`` any number of them, and the
            prediction has the scores of all classes.
        labels: the name of each class, by index.
        multi_label: a picture may have many labels; ``classes`` then are of yes and no, and nothing is confused.
        target_precision: the share of best labels to be right, for which a threshold is suggested.
    """
    failed, in_five, ranks = 0, 0, len(labels)
    scores: list[float] = []
    hits: list[bool] = []
    pairs: list[tuple[int, int]] = []  # (true, predicted)
    mistakes: list[Mistake] = []
    table: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]] = []  # scores and truths of all classes
    for prediction, truths in answers:
        if not prediction.top:
            failed += 1
            continue
        best = prediction.top[0]
        right = best.index in truths
        scores.append(best.score)
        hits.append(right)
        in_five += any(label.index in truths for label in prediction.top[:5])
        ranks = min(ranks, len(prediction.top))
        if not right:
            truth = "; ".join(labels[index] for index in truths)
            mistakes.append(Mistake(prediction.path, truth, best.label, best.score))
        if multi_label:
            table.append(_all_classes(prediction, truths, len(labels)))
        else:
            pairs.append((truths[0], best.index))
    total, best_scores, right_ones = len(scores), np.array(scores), np.array(hits, bool)
    classes = _judge_answers(table, labels) if multi_label else _judge_classes(pairs, labels)
    bins = _bins(best_scores, right_ones)
    error = sum(one.pictures * abs(one.score - one.accuracy) for one in bins) / total if total else math.nan
    curve = _curve(best_scores, right_ones)
    return Evaluation(
        labels=labels,
        top1=Share(sum(hits), total),
        top5=Share(in_five, total) if ranks >= 5 < len(labels) else None,
        balanced_accuracy=_mean(one.recall for one in classes),
        balanced_interval=None if multi_label else _resampled([truth for truth, _ in pairs], right_ones),
        macro_f1=_mean(one.f1 for one in classes),
        calibration_error=error,
        failed=failed,
        classes=classes,
        bins=bins,
        confusions=dict(Counter(pairs)),
        mistakes=tuple(sorted(mistakes, key=lambda one: -one.score)[:MOST_MISTAKES]),
        curve=curve,
        multi_label=_judge_many(table) if multi_label else None,
        target_precision=target_precision,
        suggested=None if target_precision is None else suggest_threshold(curve, total, target_precision),
    )


def suggest_threshold(curve: Curve, total: int, target: float) -> Threshold | None:
    """The threshold that calls the fewest pictures uncertain while ``target`` of the others are right, or None.

    It is the shortest decimal that parts the pictures as the score does.
    """
    enough = np.flatnonzero(curve.accuracy >= target)
    if not len(enough):
        return None
    last = int(enough[-1])
    below = curve.scores[last + 1] if last + 1 < len(curve.scores) else 0.0
    kept = round(curve.coverage[last] * total)
    right = round(curve.accuracy[last] * kept)
    return Threshold(_shortest(below, curve.scores[last]), Share(right, kept), kept / total)


def _shortest(low: float, high: float) -> float:
    """The shortest decimal in (low, high]."""
    rounded = (math.floor(high * 10**digits) / 10**digits for digits in range(1, 17))
    return next((short for short in rounded if low < short <= high), high)


def _judge_classes(pairs: Sequence[tuple[int, int]], labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Each class that is true of some picture."""
    truths, predicted = Counter(truth for truth, _ in pairs), Counter(guess for _, guess in pairs)
    hits = Counter(truth for truth, guess in pairs if truth == guess)
    return tuple(
        _class_figures(labels[index], index, pictures=truths[index], predicted=predicted[index], hits=hits[index])
        for index in sorted(truths)
    )


def _judge_answers(
    table: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]], labels: Sequence[str]
) -> tuple[ClassFigures, ...]:
    """Each class that is true of some picture, answered with a yes from a score of 0.5 up."""
    found = []
    for index, label in enumerate(labels):
        truths = np.array([truth[index] for _, truth in table], bool)
        yes = np.array([scores[index] >= YES for scores, _ in table], bool)
        if truths.any():
            counts = {"pictures": int(truths.sum()), "predicted": int(yes.sum()), "hits": int((truths & yes).sum())}
            found.append(_class_figures(label, index, **counts))
    return tuple(found)


def _class_figures(label: str, index: int, *, pictures: int, predicted: int, hits: int) -> ClassFigures:
    precision, recall = hits / predicted if predicted else 0.0, hits / pictures
    f1 = 2 * hits / (pictures + predicted)
    return ClassFigures(label, index, pictures, predicted, precision, recall, f1)


def _judge_many(table: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]) -> MultiLabel:
    scores, truths = (np.array([row[part] for row in table]) for part in (0, 1))
    if not len(table):
        return MultiLabel(Share(0, 0), math.nan, math.nan)
    yes = scores >= YES
    hits = int((yes & truths).sum())
    occurring = truths.any(axis=0)
    precisions = [_average_precision(*column) for column in zip(scores.T[occurring], truths.T[occurring], strict=True)]
    exact = int((yes == truths).all(axis=1).sum())
    answered = int(yes.sum() + truths.sum())
    return MultiLabel(Share(exact, len(table)), 2 * hits / answered if answered else math.nan, _mean(precisions))


def _all_classes(
    prediction: Prediction, truths: Sequence[int], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    if len(prediction.top) < count:
        needed = f"of many labels all are needed, --top-k {count}"
        raise UsageError(f"{prediction.path} has {len(prediction.top)} of {count} scores: {needed}")
    scores, true = np.zeros(count), np.zeros(count, bool)
    for label in prediction.top:
        scores[label.index] = label.score
    true[list(truths)] = True
    return scores, true


def _average_precision(scores: npt.NDArray[np.float64], truths: npt.NDArray[np.bool_]) -> float:
    """The mean of the precision at each true picture, from the best score down; of equal scores the last counts."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right")  # how many reach each score
    hits = np.cumsum(truths[order])
    return float((hits[ends - 1] / ends)[truths[order]].mean())


def _bins(scores: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Those that have pictures."""
    numbers = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for number in np.unique(numbers):
        here = numbers == number
        score, accuracy = float(scores[here].mean()), float(hits[here].mean())
        found.append(Bin(number / BINS, (number + 1) / BINS, int(here.sum()), score, accuracy))
    return tuple(found)


def _curve(scores: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_]) -> Curve:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])  # the last of equal scores
    counts = ends + 1
    return Curve(scores[order][ends], counts / max(len(scores), 1), np.cumsum(hits[order])[ends] / counts)


def _resampled(truths: Sequence[int], hits: npt.NDArray[np.bool_]) -> Interval:
    """The interval of the mean recall by bootstrap: drawing as many pictures, with repetition, again and again."""
    if not len(truths):
        return math.nan, math.nan
    _, classes = np.unique(truths, return_inverse=True)
    generator, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, len(classes), len(classes))
        pictures = np.bincount(classes[drawn])
        right = np.bincount(classes[drawn], weights=hits[drawn], minlength=len(pictures))
        means.append(float((right[pictures > 0] / pictures[pictures > 0]).mean()))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan
