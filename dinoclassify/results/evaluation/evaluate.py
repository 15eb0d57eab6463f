"""Predictions and true classes -> figures."""

from collections.abc import Iterable, Sequence

import numpy as np

from dinoclassify.results.evaluation.calibration import Flags, mean_error, suggest_threshold, trace
from dinoclassify.results.evaluation.figures import Evaluation, LabelledPrediction, Mistake, mean
from dinoclassify.results.evaluation.multi_label import multi_label_figures
from dinoclassify.results.evaluation.single_label import single_label_figures
from dinoclassify.types.share import Share

MOST_MISTAKES = 20  # the most confident ones


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
    if multi_label:
        figures = multi_label_figures(labelled, labels)
    else:
        figures = single_label_figures(labelled, scores, hits, labels)
    return Evaluation(
        labels=labels,
        top1=Share(int(hits.sum()), len(labelled)),
        top5=_top5(labelled, len(labels)),
        balanced_accuracy=figures.balanced_accuracy,
        balanced_interval=figures.balanced_interval,
        macro_f1=mean(each.f1 for each in figures.classes),
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
    """The most confident predictions that are wrong."""
    mistakes = [
        Mistake(row.path, truths, row.top[0].index, row.top[0].score)
        for (row, truths), hit in zip(labelled, hits, strict=True)
        if not hit
    ]
    return tuple(sorted(mistakes, key=lambda mistake: -mistake.score)[:MOST_MISTAKES])
