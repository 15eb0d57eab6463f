"""The figures of an evaluation, as data."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dinoclassify.results.evaluation.calibration import Calibration
from dinoclassify.results.evaluation.intervals import ClusteredShare
from dinoclassify.results.evaluation.thresholds import Curve, Threshold
from dinoclassify.types.share import Interval, Share

MOST_MISTAKES = 20  # the most confident ones


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: how many images have it, how many are predicted to have it, and how well the two agree.

    A share of no images is 0, as with scikit-learn's ``zero_division=0``.
    """

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
class WrongAnswer:
    """A label of an image that is given and not true or, if not ``given``, true and missing.

    score: None if the row does not have it.
    """

    path: str
    index: int
    given: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class MultiLabelFigures:
    """Figures that exist only with many labels an image. An answer is one label of one image: given or not.

    threshold: a label is given if its score is at least this.
    exact: images whose given labels are exactly their true ones, which may be none.
    answers: the answers that are right.
    always_no: the share of answers that would be right if no label were ever given.
    micro_f1: F1 over all answers; ``micro_f1_interval`` is by image.
    mean_average_precision: the mean over the labels that some image has; None if a row lacks scores.
    wrong_answers: those with the scores farthest from the threshold first.
    """

    threshold: float
    exact: Share
    answers: ClusteredShare
    always_no: float
    micro_f1: float
    micro_f1_interval: Interval | None
    mean_average_precision: float | None
    wrong_answers: tuple[WrongAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures. Failed images count in ``failed`` only.

    labels: the class names, by index.
    images: how many were judged.
    classes: the classes that some image has or is predicted to have.
    macro_f1: the mean F1 of ``classes``, as scikit-learn computes it. A label that no image has and none is given
        counts in neither, as with scikit-learn's ``zero_division=nan``.
    calibration: of the best labels; with many labels an image, of all answers. None without images, and with many
        labels also if a row lacks scores.
    log_loss: the mean of -log(probability of the true class); with many labels an image, the binary one over all
        answers. None if a row lacks scores.
    brier_score: the mean over images of the sum over classes of (probability - truth)², from 0 to 2; with many labels
        an image, the mean over all answers, from 0 to 1. None if a row lacks scores.
    curve: precision and coverage of all thresholds; with many labels an image, precision and recall of all answers.
    suggested: the threshold for ``target_precision``; None if no target was set or no threshold reaches it.

    These exist only with one label an image:

    top1: images whose best label is a true one.
    top5: images with a true label among the best five; None if fewer than five are known or five are all there are.
    balanced_accuracy: the mean recall of the classes that some image has.
    balanced_interval: its 95 % confidence interval; None if a class has fewer than five images.
    confusions: the number of images of each (true, predicted) pair of class indices.
    mistakes: the most confident ones first.
    """

    labels: Sequence[str]
    images: int
    failed: int
    classes: tuple[ClassFigures, ...]
    macro_f1: float
    calibration: Calibration | None
    log_loss: float | None
    brier_score: float | None
    curve: Curve
    target_precision: float | None
    suggested: Threshold | None
    top1: Share | None = None
    top5: Share | None = None
    balanced_accuracy: float | None = None
    balanced_interval: Interval | None = None
    confusions: Mapping[tuple[int, int], int]
    mistakes: tuple[Mistake, ...] = ()
    multi_label: MultiLabelFigures | None = None


def class_figures(
    labels: Sequence[str], images: Mapping[int, int], predicted: Mapping[int, int], hits: Mapping[int, int]
) -> tuple[ClassFigures, ...]:
    """The figures of each class that some image has or is predicted to have, from the numbers of images by class."""
    return tuple(
        ClassFigures(
            label,
            index,
            images.get(index, 0),
            predicted.get(index, 0),
            precision=_share(hits.get(index, 0), predicted.get(index, 0)),
            recall=_share(hits.get(index, 0), images.get(index, 0)),
            f1=_share(2 * hits.get(index, 0), images.get(index, 0) + predicted.get(index, 0)),
        )
        for index, label in enumerate(labels)
        if images.get(index) or predicted.get(index)
    )


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of no values."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
