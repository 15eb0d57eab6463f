"""The figures of images with one true class each."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dinoclassify.results.evaluation.calibration import Flags, Scores, calibrate
from dinoclassify.results.evaluation.figures import MOST_MISTAKES, Evaluation, Mistake, class_figures, mean
from dinoclassify.results.evaluation.intervals import balanced_interval
from dinoclassify.results.evaluation.labelled_prediction import RANKS, LabelledPrediction
from dinoclassify.results.evaluation.thresholds import Curve, Threshold, cross_fit, suggest_threshold, trace
from dinoclassify.types.share import Share


def judge_best_labels(
    labelled: Sequence[LabelledPrediction], labels: Sequence[str], *, failed: int, target_precision: float | None
) -> Evaluation:
    """The figures of the best label of each image; each row has a label."""
    scores = np.array([each.row.top[0].score for each in labelled])
    pairs = [(each.truths[0], each.row.top[0].index) for each in labelled]
    truths = [truth for truth, _ in pairs]
    hits = np.array([truth == guess for truth, guess in pairs], bool)
    right = Counter(truth for truth, guess in pairs if truth == guess)
    classes = class_figures(labels, Counter(truths), Counter(guess for _, guess in pairs), right)
    curve = trace(scores, hits)
    losses = [each.losses for each in labelled if each.losses is not None]
    has_losses = bool(labelled) and len(losses) == len(labelled)
    return Evaluation(
        labels=labels,
        images=len(labelled),
        failed=failed,
        classes=classes,
        macro_f1=mean(each.f1 for each in classes),
        calibration=calibrate(scores, hits),
        log_loss=mean(each.log for each in losses) if has_losses else None,
        brier_score=mean(each.brier for each in losses) if has_losses else None,
        curve=curve,
        target_precision=target_precision,
        suggested=None if target_precision is None else _suggest(curve, scores, hits, target_precision),
        top1=Share(int(hits.sum()), len(labelled)),
        top5=_top5(labelled, len(labels)),
        balanced_accuracy=mean(each.recall for each in classes if each.pictures),
        balanced_interval=balanced_interval(truths, hits),
        confusions=dict(Counter(pairs)),
        mistakes=_mistakes(labelled, hits),
    )


def _suggest(curve: Curve, scores: Scores, hits: Flags, target: float) -> Threshold | None:
    threshold = suggest_threshold(curve, target)
    if threshold is None:
        return None
    reached = cross_fit(scores, hits, np.arange(len(scores)), target)
    precision = Share(int((reached & hits).sum()), int(reached.sum()))
    return Threshold(threshold, precision, precision.total / len(scores))


def _top5(labelled: Sequence[LabelledPrediction], classes: int) -> Share | None:
    """The images with their class among the best five; None if that is not known or always so."""
    ranks = min((len(each.row.top) for each in labelled), default=0)
    if not ranks >= RANKS < classes:
        return None
    hits = sum(each.truths[0] in [label.index for label in each.row.top[:RANKS]] for each in labelled)
    return Share(hits, len(labelled))


def _mistakes(labelled: Sequence[LabelledPrediction], hits: Flags) -> tuple[Mistake, ...]:
    mistakes = [
        Mistake(each.row.path, each.truths, each.row.top[0].index, each.row.top[0].score)
        for each, hit in zip(labelled, hits, strict=True)
        if not hit
    ]
    return tuple(sorted(mistakes, key=lambda mistake: -mistake.score)[:MOST_MISTAKES])
