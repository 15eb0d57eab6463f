"""The figures of images with one true class each."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dinoclassify.results.evaluation.calibration import Flags, Scores, bin_scores
from dinoclassify.results.evaluation.figures import ClassFigures, LabelledPrediction, TaskFigures, mean
from dinoclassify.types.share import Interval

RESAMPLES = 1000  # of the bootstrap
ENOUGH = 5  # images of a class, on average: with fewer, bootstrap intervals are too narrow


def single_label_figures(
    predictions: Sequence[LabelledPrediction], scores: Scores, hits: Flags, labels: Sequence[str]
) -> TaskFigures:
    """The figures of predictions that each have a label.

    Args:
        predictions: each with the true class of its image.
        scores: the score of each best label.
        hits: whether each best label is right.
        labels: the class names, by index.
    """
    pairs = [(truths[0], row.top[0].index) for row, truths in predictions]
    classes = _class_figures(pairs, labels)
    return TaskFigures(
        classes=classes,
        bins=bin_scores(scores, hits),
        confusions=dict(Counter(pairs)),
        balanced_accuracy=mean(figures.recall for figures in classes),
        balanced_interval=_balanced_interval([truth for truth, _ in pairs], hits),
    )


def _class_figures(pairs: Sequence[tuple[int, int]], labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """The figures of each class that some image has, from (true, predicted) pairs."""
    images = Counter(truth for truth, _ in pairs)
    predicted = Counter(guess for _, guess in pairs)
    hits = Counter(truth for truth, guess in pairs if truth == guess)
    return tuple(
        ClassFigures.count(labels[index], index, images=images[index], predicted=predicted[index], hits=hits[index])
        for index in sorted(images)
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
