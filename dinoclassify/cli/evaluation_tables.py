"""An evaluation as tables."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields

from dinoclassify.cli.terminal import print_lines, print_table, require_stdout, writing_to_stdout
from dinoclassify.results.evaluation.calibration import Calibration
from dinoclassify.results.evaluation.figures import ClassFigures, Evaluation, MultiLabelFigures
from dinoclassify.results.evaluation.intervals import ClusteredShare
from dinoclassify.results.evaluation.thresholds import Threshold
from dinoclassify.storage.paths import shown_path
from dinoclassify.types.share import Interval, Share
from dinoclassify.writers.formats.csv import join

_FEW = 20  # classes to show
_MATRIX = 12  # classes: a larger confusion matrix does not fit a terminal
_WORST = 10  # confusions and mistakes to show

Row = dict[str, object]


@writing_to_stdout()
def print_csv(evaluation: Evaluation) -> None:
    """Print the figures of each class as CSV."""
    require_stdout()
    names = [field.name for field in fields(ClassFigures)]
    for values in (names, *map(astuple, evaluation.classes)):
        sys.stdout.buffer.write(join(values))  # always UTF-8, whatever the encoding of the terminal


def show(evaluation: Evaluation) -> None:
    """Print tables: boxed on a terminal, tab-separated with an empty line between them in a pipe."""
    name = _naming(evaluation.labels)
    print_table(_headlines(evaluation), as_json=False)
    if evaluation.target_precision is not None:
        print_lines(["", _suggestion(evaluation)])
    _show_classes(evaluation, name)
    if evaluation.multi_label is not None:
        _show_wrong_answers(evaluation.multi_label, name)
    else:
        _show_confusions(evaluation, name)
        _show_mistakes(evaluation, name)


def _headlines(evaluation: Evaluation) -> list[Row]:
    many = evaluation.multi_label
    lines = _of_best_labels(evaluation) if many is None else _of_answers(many)
    lines.append(_line("mean F1 of classes" if many is None else "mean F1 of labels", evaluation.macro_f1))
    if evaluation.log_loss is not None:
        lines.append(_line("log loss", evaluation.log_loss))
    if evaluation.brier_score is not None:
        lines.append(_line("Brier score", evaluation.brier_score))
    if evaluation.calibration is not None:
        lines += _of_calibration(evaluation.calibration, "accuracy" if many is None else "share of true labels")
    return lines


def _of_best_labels(evaluation: Evaluation) -> list[Row]:
    lines = [_share_line("top-1", evaluation.top1)] if evaluation.top1 is not None else []
    if evaluation.top5 is not None:
        lines.append(_share_line("top-5", evaluation.top5))
    if evaluation.balanced_accuracy is not None:
        lines.append(_line("balanced accuracy", evaluation.balanced_accuracy, evaluation.balanced_interval))
    return lines


def _of_answers(figures: MultiLabelFigures) -> list[Row]:
    lines = [
        _share_line("all labels are right", figures.exact),
        _share_line("answers right", figures.answers),
        _line("answers right if always no", figures.always_no),
        _line("F1 of all answers", figures.micro_f1, figures.micro_f1_interval),
    ]
    if figures.mean_average_precision is not None:
        lines.append(_line("mean average precision", figures.mean_average_precision))
    return lines


def _of_calibration(calibration: Calibration, what: str) -> list[Row]:
    chance, signed = calibration.by_chance, calibration.signed_error
    high, low = ("over-confident", "under-confident") if what == "accuracy" else ("too high", "too low")
    return [
        _line("expected calibration error", calibration.error),
        _line("the same by chance", chance.mean) | {"95 %": f"up to {chance.percentile95:.4f}"},
        _line(f"mean score minus {what}", signed, of=high if signed > 0 else low) | {"value": f"{signed:+.4f}"},
    ]


def _share_line(figure: str, share: Share | ClusteredShare) -> Row:
    return _line(figure, share.value, share.interval, f"{share.right:,} of {share.total:,}")


def _line(figure: str, value: float, interval: Interval | None = None, of: str = "") -> Row:
    between = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval is not None else None
    return {"figure": figure, "value": f"{value:.4f}", "95 %": between, "of": of or None}


def _suggestion(evaluation: Evaluation) -> str:
    suggested, target = evaluation.suggested, evaluation.target_precision
    if suggested is None:
        return f"No threshold makes {target:.1%} of the labels right."
    threshold = str(suggested.threshold).removesuffix(".0")  # with all digits: scores may be close together
    if not suggested.precision.total:
        return f"--threshold {threshold}: the images are too few to judge it on images that it was not tuned on."
    return f"--threshold {threshold}: {_judged(suggested, many=evaluation.multi_label is not None)}"


def _judged(suggested: Threshold, *, many: bool) -> str:
    interval = suggested.precision.interval
    between = f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval is not None else ""
    labels, coverage = (
        ("given labels", "of the true labels were given") if many else ("labels", "of the images got one")
    )
    return (
        f"{suggested.precision.value:.1%} of the {labels} were right here{between}, "
        f"{suggested.coverage:.1%} {coverage}; judged on images that it was not tuned on."
    )


def _show_classes(evaluation: Evaluation, name: Callable[[int], str]) -> None:
    kind = "label" if evaluation.multi_label is not None else "class"
    worst = sorted(evaluation.classes, key=lambda figures: (figures.f1, -figures.pictures))
    more = f"the worst {_FEW} of {len(worst):,}; --csv prints all" if len(worst) > _FEW else "worst first"
    _titled(
        f"{'Labels' if kind == 'label' else 'Classes'}, {more}",
        [
            {
                kind: name(figures.index),
                "images": figures.pictures,
                "precision": f"{figures.precision:.4f}",
                "recall": f"{figures.recall:.4f}",
                "F1": f"{figures.f1:.4f}",
            }
            for figures in worst[:_FEW]
        ],
    )


def _show_confusions(evaluation: Evaluation, name: Callable[[int], str]) -> None:
    counts = evaluation.confusions
    shown = sorted({index for pair in counts for index in pair})
    if 1 < len(shown) <= _MATRIX:
        _titled("Confusion matrix", _matrix(counts, shown, name))
        return
    confused = [pair for pair, _ in Counter(counts).most_common() if pair[0] != pair[1]]
    _titled(
        "Confused most often",
        [
            {"true": name(truth), "predicted": name(guess), "images": counts[truth, guess]}
            for truth, guess in confused[:_WORST]
        ],
    )


def _matrix(counts: Mapping[tuple[int, int], int], shown: Sequence[int], name: Callable[[int], str]) -> list[Row]:
    """Return a row for each true class, with a column for each predicted one."""
    return [
        {"true \\ predicted": name(truth)} | {name(guess): counts.get((truth, guess), 0) for guess in shown}
        for truth in shown
    ]


def _show_mistakes(evaluation: Evaluation, name: Callable[[int], str]) -> None:
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


def _show_wrong_answers(figures: MultiLabelFigures, name: Callable[[int], str]) -> None:
    _titled(
        "Most confident wrong answers",
        [
            {
                "path": shown_path(answer.path),
                "label": name(answer.index),
                "answer": "given" if answer.given else "missing",
                "score": f"{answer.score:.4f}" if answer.score is not None else None,
            }
            for answer in figures.wrong_answers[:_WORST]
        ],
    )


def _naming(labels: Sequence[str]) -> Callable[[int], str]:
    """Return a function from a class to its label, with the index behind it if several classes have that label."""
    count = Counter(labels)
    return lambda index: f"{labels[index]} ({index})" if count[labels[index]] > 1 else labels[index]


def _titled(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        print_lines(["", title])
        print_table(rows, as_json=False)
