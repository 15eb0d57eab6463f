"""An evaluation as tables or as JSON."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from dinoclassify.cli.terminal import print_lines, print_table
from dinoclassify.results.evaluation.calibration import Threshold
from dinoclassify.results.evaluation.evaluate import Evaluation
from dinoclassify.storage.paths import shown_path
from dinoclassify.types.share import Share

_FEW = 20  # classes to show
_MATRIX = 12  # classes: a larger confusion matrix does not fit a terminal
_WORST = 10  # confusions and mistakes to show
_THRESHOLDS = [step / 20 for step in range(20)]  # points of the curve in JSON


def show(evaluation: Evaluation) -> None:
    """Print tables: boxed on a terminal, tab-separated with an empty line between them in a pipe."""
    name = _naming(evaluation.labels)
    print_table(_headlines(evaluation), as_json=False)
    if evaluation.target_precision is not None:
        print_lines(["", _suggestion(evaluation.suggested, evaluation.target_precision)])
    worst = sorted(evaluation.classes, key=lambda figures: (figures.f1, -figures.pictures))
    more = f"the worst {_FEW} of {len(worst):,}; --csv prints all" if len(worst) > _FEW else "worst first"
    _titled(
        f"Classes, {more}",
        [
            {
                "class": name(figures.index),
                "images": figures.pictures,
                "precision": f"{figures.precision:.4f}",
                "recall": f"{figures.recall:.4f}",
                "F1": f"{figures.f1:.4f}",
            }
            for figures in worst[:_FEW]
        ],
    )
    if 1 < len({index for pair in evaluation.confusions for index in pair}) <= _MATRIX:
        _titled("Confusion matrix", _matrix(evaluation, name))
    else:
        confused = [pair for pair, _ in Counter(evaluation.confusions).most_common() if pair[0] != pair[1]]
        _titled(
            "Confused most often",
            [
                {"true": name(truth), "predicted": name(guess), "images": evaluation.confusions[truth, guess]}
                for truth, guess in confused[:_WORST]
            ],
        )
    _titled(
        "Most confident mistakes",
        [
            {
                "path": shown_path(mistake.path),
                "true": "; ".join(map(name, mistake.truth)),
                "predicted": name(mistake.predicted),
                "score": f"{mistake.score:.4f}",
            }
            for mistake in evaluation.mistakes[:_WORST]
        ],
    )


def _headlines(evaluation: Evaluation) -> list[dict[str, object]]:
    def line(figure: str, value: float, interval: tuple[float, float] | None = None, of: str = "") -> dict[str, object]:
        between = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval is not None else None
        return {"figure": figure, "value": f"{value:.4f}", "95 %": between, "of": of or None}

    def share_line(figure: str, share: Share) -> dict[str, object]:
        return line(figure, share.value, share.interval, f"{share.right:,} of {share.total:,}")

    many = evaluation.multi_label
    lines = [share_line("best label is right" if many else "top-1", evaluation.top1)]
    if evaluation.top5 is not None:
        lines.append(share_line("one of the best five is right" if many else "top-5", evaluation.top5))
    if many is not None:
        lines.append(share_line("all labels are right", many.exact))
        lines.append(line("mean average precision", many.mean_average_precision))
        lines.append(line("F1 of all answers", many.micro_f1))
    if evaluation.balanced_accuracy is not None:
        lines.append(line("balanced accuracy", evaluation.balanced_accuracy, evaluation.balanced_interval))
    lines.append(line("mean F1 of classes", evaluation.macro_f1))
    lines.append(line("expected calibration error", evaluation.calibration_error))
    return lines


def _suggestion(suggested: Threshold | None, target: float) -> str:
    if suggested is None:
        return f"No threshold makes {target:.1%} of the labels right."
    low, high = suggested.precision.interval
    threshold = str(suggested.threshold).removesuffix(".0")  # with all digits: scores may be close together
    return (
        f"--threshold {threshold}: {suggested.precision.value:.2%} of the labels are right "
        f"({low:.2%} to {high:.2%}), {suggested.coverage:.2%} of the images get one."
    )


def _matrix(evaluation: Evaluation, name: Callable[[int], str]) -> list[dict[str, object]]:
    """Return a row for each true class, with a column for each predicted one."""
    counts = evaluation.confusions
    shown = sorted({index for pair in counts for index in pair})
    return [
        {"true \\ predicted": name(truth)} | {name(guess): counts.get((truth, guess), 0) for guess in shown}
        for truth in shown
    ]


def _naming(labels: Sequence[str]) -> Callable[[int], str]:
    """Return a function from a class to its label, with the index behind it if several classes have that label."""
    count = Counter(labels)
    return lambda index: f"{labels[index]} ({index})" if count[labels[index]] > 1 else labels[index]


def _titled(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        print_lines(["", title])
        print_table(rows, as_json=False)


def as_json(evaluation: Evaluation) -> object:
    """Return all figures for JSON, with null for what is not a finite number."""
    labels, many, suggested = evaluation.labels, evaluation.multi_label, evaluation.suggested
    content = {
        "top1": _share(evaluation.top1),
        "top5": _share(evaluation.top5),
        "balanced_accuracy": evaluation.balanced_accuracy,
        "balanced_interval": evaluation.balanced_interval,
        "macro_f1": evaluation.macro_f1,
        "calibration_error": evaluation.calibration_error,
        "failed": evaluation.failed,
        "multi_label": many and asdict(many) | {"exact": _share(many.exact)},
        "target_precision": evaluation.target_precision,
        "suggested": suggested and asdict(suggested) | {"precision": _share(suggested.precision)},
        "classes": [asdict(figures) for figures in evaluation.classes],
        "confusions": [
            {
                "true": labels[truth],
                "true_index": truth,
                "predicted": labels[guess],
                "predicted_index": guess,
                "pictures": count,
            }
            for (truth, guess), count in Counter(evaluation.confusions).most_common()
        ],
        "mistakes": [
            {
                "path": shown_path(mistake.path),
                "true": [labels[index] for index in mistake.truth],
                "true_index": list(mistake.truth),
                "predicted": labels[mistake.predicted],
                "predicted_index": mistake.predicted,
                "score": mistake.score,
            }
            for mistake in evaluation.mistakes
        ],
        "bins": [asdict(bin_) for bin_ in evaluation.bins],
        "curve": [
            {"threshold": threshold, "coverage": point[0], "accuracy": point[1]}
            for threshold in _THRESHOLDS
            if (point := evaluation.curve.at(threshold)) is not None
        ],
    }
    return _finite(content)


def _share(share: Share | None) -> dict[str, object] | None:
    if share is None:
        return None
    return {"value": share.value, "interval": share.interval, "right": share.right, "total": share.total}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
