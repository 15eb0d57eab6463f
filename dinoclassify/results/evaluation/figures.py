"""The figures of an evaluation, and what they are computed from."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dinoclassify.results.evaluation.calibration import Bin, Curve, Threshold
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.share import Interval, Share

LabelledPrediction = tuple[Prediction, tuple[int, ...]]  # with the indices of the image's true classes


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: how many images have it, how many are predicted to have it, and how well the two agree."""

    label: str
    index: int
    images: int
    predicted: int
    precision: float
    recall: float
    f1: float

    @classmethod
    def count(cls, label: str, index: int, *, images: int, predicted: int, hits: int) -> "ClassFigures":
        """The figures of a class with at least one image; ``hits`` of its images are predicted to have it."""
        precision = hits / predicted if predicted else 0.0
        return cls(label, index, images, predicted, precision, hits / images, 2 * hits / (images + predicted))


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


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of no values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan
