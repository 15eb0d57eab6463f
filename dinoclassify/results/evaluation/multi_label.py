"""The figures of images with any number of true labels: each label of each image is an answer, given or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinoclassify.results.evaluation.calibration import Flags, Scores, calibrate
from dinoclassify.results.evaluation.figures import (
    MOST_MISTAKES,
    Evaluation,
    MultiLabelFigures,
    WrongAnswer,
    class_figures,
    mean,
)
from dinoclassify.results.evaluation.intervals import ClusteredShare, Counts, ratio_interval
from dinoclassify.results.evaluation.labelled_prediction import LEAST, LabelledPrediction
from dinoclassify.results.evaluation.thresholds import Curve, Threshold, cross_fit, suggest_threshold, trace
from dinoclassify.types.share import Share


@dataclass(frozen=True, slots=True)
class _Answers:
    """All answers, each array images x labels. A score that a row lacks is NaN, and below the threshold."""

    scores: Scores
    truths: Flags
    threshold: float

    @property
    def given(self) -> Flags:
        return self.scores >= self.threshold

    @property
    def least(self) -> float:
        """The score from which all are known: the threshold if a row lacks some."""
        return self.threshold if np.isnan(self.scores).any() else 0.0


def judge_answers(
    labelled: Sequence[LabelledPrediction],
    labels: Sequence[str],
    *,
    failed: int,
    threshold: float,
    target_precision: float | None,
) -> Evaluation:
    """The figures of all answers; each row has all scores, or at least those that reach the threshold."""
    answers = _as_arrays(labelled, len(labels), threshold)
    scores, truths, given = answers.scores, answers.truths, answers.given
    counts = [dict(enumerate(each.sum(axis=0).tolist())) for each in (truths, given, truths & given)]
    classes = class_figures(labels, *counts)
    has_all = bool(labelled) and not np.isnan(scores).any()
    log_loss, brier_score = _losses(scores, truths) if has_all else (None, None)
    curve, f1 = _trace(answers), _micro_f1(given, truths)
    return Evaluation(
        labels=labels,
        images=len(labelled),
        failed=failed,
        classes=classes,
        macro_f1=mean(each.f1 for each in classes),
        calibration=calibrate(scores.ravel(), truths.ravel()) if has_all else None,
        log_loss=log_loss,
        brier_score=brier_score,
        curve=curve,
        target_precision=target_precision,
        suggested=None if target_precision is None else _suggest(curve, answers, target_precision),
        confusions={},
        multi_label=MultiLabelFigures(
            threshold=threshold,
            exact=Share(int((given == truths).all(axis=1).sum()), len(truths)),
            answers=_clustered((given == truths).sum(axis=1), np.full(len(truths), len(labels))),
            always_no=float(1 - truths.mean()) if truths.size else math.nan,
            micro_f1=f1.value,
            micro_f1_interval=f1.interval,
            mean_average_precision=_mean_average_precision(scores, truths) if has_all else None,
            wrong_answers=_wrong_answers(labelled, answers),
        ),
    )


def _as_arrays(labelled: Sequence[LabelledPrediction], classes: int, threshold: float) -> _Answers:
    scores, truths = np.full((len(labelled), classes), np.nan), np.zeros((len(labelled), classes), bool)
    for number, each in enumerate(labelled):
        scores[number, [label.index for label in each.row.top]] = [label.score for label in each.row.top]
        truths[number, list(each.truths)] = True
    return _Answers(scores, truths, threshold)


def _clustered(parts: Counts, wholes: Counts) -> ClusteredShare:
    """The share of parts among wholes, both by image."""
    return ClusteredShare(int(parts.sum()), int(wholes.sum()), ratio_interval(parts, wholes))


def _micro_f1(given: Flags, truths: Flags) -> ClusteredShare:
    return _clustered(2 * (given & truths).sum(axis=1), given.sum(axis=1) + truths.sum(axis=1))


def _losses(scores: Scores, truths: Flags) -> tuple[float, float]:
    """The binary log loss and the Brier score."""
    clipped = np.clip(scores, LEAST, 1 - LEAST)
    log_loss = -np.log(np.where(truths, clipped, 1 - clipped)).mean()
    return float(log_loss), float(((scores - truths) ** 2).mean())


def _mean_average_precision(scores: Scores, truths: Flags) -> float:
    occurring = truths.any(axis=0)
    return mean(_average_precision(*column) for column in zip(scores.T[occurring], truths.T[occurring], strict=True))


def _average_precision(scores: Scores, truths: Flags) -> float:
    """The mean of the precision at each true image, by descending score; equal scores count as the last of them."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right")  # how many images reach each score
    hits = np.cumsum(truths[order])
    return float((hits[ends - 1] / ends)[truths[order]].mean())


def _trace(answers: _Answers) -> Curve:
    known = answers.scores >= answers.least
    return trace(answers.scores[known], answers.truths[known], int(answers.truths.sum()))


def _suggest(curve: Curve, answers: _Answers, target: float) -> Threshold | None:
    threshold = suggest_threshold(curve, target, answers.least)
    if threshold is None:
        return None
    known = answers.scores >= answers.least
    hits, images = answers.truths[known], np.nonzero(known)[0]
    reached = cross_fit(answers.scores[known], hits, images, target, answers.least)
    given = np.bincount(images[reached], minlength=len(answers.truths))
    right = np.bincount(images[reached & hits], minlength=len(answers.truths))
    coverage = float(right.sum() / max(answers.truths.sum(), 1))
    return Threshold(threshold, _clustered(right, given), coverage)


def _wrong_answers(labelled: Sequence[LabelledPrediction], answers: _Answers) -> tuple[WrongAnswer, ...]:
    images, labels = np.nonzero(answers.given != answers.truths)
    scores = answers.scores[images, labels]
    distances = np.nan_to_num(np.abs(scores - answers.threshold), nan=-1.0)
    return tuple(
        WrongAnswer(
            labelled[images[number]].row.path,
            int(labels[number]),
            given=bool(scores[number] >= answers.threshold),
            score=None if np.isnan(scores[number]) else float(scores[number]),
        )
        for number in np.argsort(-distances, kind="stable")[:MOST_MISTAKES].tolist()
    )
