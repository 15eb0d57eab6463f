"""An evaluation as JSON."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from dinoclassify.results.evaluation.figures import Evaluation, MultiLabelFigures
from dinoclassify.results.evaluation.intervals import ClusteredShare
from dinoclassify.results.evaluation.thresholds import Threshold
from dinoclassify.storage.paths import shown_path
from dinoclassify.types.share import Share

_THRESHOLDS = [step / 20 for step in range(20)]  # points of the curve


def as_json(evaluation: Evaluation, *, missing: int, extra: int) -> object:
    """Return all figures for JSON, with null for what is not a finite number.

    ``missing`` counts the labelled images without a row, ``extra`` the rows of other images. In ``suggested``, the
    ``threshold`` is tuned on all images; its ``precision`` and ``coverage`` are cross-fitted: those of images that it
    was not tuned on.
    """
    calibration = evaluation.calibration
    content = {
        "images": evaluation.images,
        "failed": evaluation.failed,
        "missing": missing,
        "extra": extra,
        "top1": _share(evaluation.top1),
        "top5": _share(evaluation.top5),
        "balanced_accuracy": evaluation.balanced_accuracy,
        "balanced_interval": evaluation.balanced_interval,
        "macro_f1": evaluation.macro_f1,
        "log_loss": evaluation.log_loss,
        "brier_score": evaluation.brier_score,
        "calibration_error": calibration and calibration.error,
        "calibration_error_by_chance": calibration and asdict(calibration.by_chance),
        "signed_calibration_error": calibration and calibration.signed_error,
        "multi_label": evaluation.multi_label and _multi_label(evaluation.multi_label),
        "target_precision": evaluation.target_precision,
        "suggested": evaluation.suggested and _suggested(evaluation.suggested),
        "classes": [asdict(figures) for figures in evaluation.classes],
        "confusions": _confusions(evaluation),
        "mistakes": _wrong_answers(evaluation) if evaluation.multi_label is not None else _mistakes(evaluation),
        "bins": [asdict(bin_) for bin_ in calibration.bins] if calibration is not None else [],
        "curve": [
            {"threshold": threshold, "coverage": point[0], "accuracy": point[1]}
            for threshold in _THRESHOLDS
            if (point := evaluation.curve.at(threshold)) is not None
        ],
    }
    return _finite(content)


def _multi_label(figures: MultiLabelFigures) -> Mapping[str, object]:
    return {
        "threshold": figures.threshold,
        "exact": _share(figures.exact),
        "answers": _share(figures.answers),
        "always_no": figures.always_no,
        "micro_f1": figures.micro_f1,
        "micro_f1_interval": figures.micro_f1_interval,
        "mean_average_precision": figures.mean_average_precision,
    }


def _suggested(suggested: Threshold) -> Mapping[str, object]:
    return {
        "threshold": suggested.threshold,
        "precision": _share(suggested.precision),
        "coverage": suggested.coverage,
    }


def _confusions(evaluation: Evaluation) -> list[dict[str, object]]:
    labels = evaluation.labels
    return [
        {
            "true": labels[truth],
            "true_index": truth,
            "predicted": labels[guess],
            "predicted_index": guess,
            "pictures": count,
        }
        for (truth, guess), count in Counter(evaluation.confusions).most_common()
    ]


def _mistakes(evaluation: Evaluation) -> list[dict[str, object]]:
    labels = evaluation.labels
    return [
        {
            "path": shown_path(mistake.path),
            "true": [labels[index] for index in mistake.truth],
            "true_index": list(mistake.truth),
            "predicted": labels[mistake.predicted],
            "predicted_index": mistake.predicted,
            "score": mistake.score,
        }
        for mistake in evaluation.mistakes
    ]


def _wrong_answers(evaluation: Evaluation) -> list[dict[str, object]]:
    answers = evaluation.multi_label.wrong_answers if evaluation.multi_label is not None else ()
    return [
        {
            "path": shown_path(answer.path),
            "label": evaluation.labels[answer.index],
            "index": answer.index,
            "answer": "given" if answer.given else "missing",
            "score": answer.score,
        }
        for answer in answers
    ]


def _share(share: Share | ClusteredShare | None) -> dict[str, object] | None:
    if share is None:
        return None
    return {"value": share.value, "interval": share.interval, "right": share.right, "total": share.total}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
