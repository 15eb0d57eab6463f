"""Plots of an evaluation: the confusion matrix, the reliability diagram, accuracy against threshold."""

import os
from typing import Literal

import numpy as np

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import printable
from dinoclassify.results.evaluation.calibration import Calibration
from dinoclassify.results.evaluation.figures import Evaluation
from dinoclassify.results.evaluation.thresholds import Curve
from dinoclassify.storage.atomic import as_output_errors, replacing

try:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
except ImportError:
    raise UsageError("plots need matplotlib: pip install 'dinoclassify[plots]'") from None

PlotFormat = Literal["png", "svg"]

_MOST_NAMED = 40  # classes; the names of more would be too small to read
_LONGEST = 24  # characters of a name
_MOST_POINTS = 5000  # of a curve
_DPI = 144


def make_folder(folder: str) -> None:
    """Create the folder for plots unless it exists, so that a bad path is an OutputError before the work begins."""
    with as_output_errors(folder):
        os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {folder}: it may not be written to")


def write_plots(folder: str, evaluation: Evaluation, plot_format: PlotFormat) -> None:
    """Write each plot to a file in ``folder``; the same evaluation gives the same bytes.

    Raises:
        OutputError: a file cannot be written.
    """
    figures = {"threshold": plot_threshold(evaluation)}
    if evaluation.calibration is not None:
        figures["reliability"] = plot_reliability(evaluation.calibration)
    if evaluation.confusions:
        figures["confusion"] = plot_confusion(evaluation)
    metadata = {"Date": None} if plot_format == "svg" else None
    for name, figure in figures.items():
        file_name = os.path.join(folder, f"{name}.{plot_format}")
        # Without a salt of ours, element ids in an SVG are random.
        with replacing(os.path.realpath(file_name)) as file, rc_context({"svg.hashsalt": name}):
            figure.savefig(file, format=plot_format, dpi=_DPI, metadata=metadata)


def plot_confusion(evaluation: Evaluation) -> Figure:
    """The confusion matrix: the share of each true class (row) that is predicted as each class (column)."""
    shown = sorted({index for pair in evaluation.confusions for index in pair})
    place = {index: number for number, index in enumerate(shown)}
    matrix = np.zeros((len(shown), len(shown)))
    for (truth, guess), count in evaluation.confusions.items():
        matrix[place[truth], place[guess]] = count
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(shown) <= _MOST_NAMED
    side = max(5.0, 2.5 + 0.28 * len(shown)) if named else 8.0
    figure = Figure((side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, label="share of the images of the class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusion, {evaluation.images:,} images")
    if named:
        names = [_short(evaluation.labels[index]) for index in shown]
        axes.set_xticks(range(len(shown)), names, rotation=90)
        axes.set_yticks(range(len(shown)), names)
    else:
        axes.set(xticks=[], yticks=[], xlabel=f"predicted, {len(shown):,} classes by index")
    return figure


def plot_reliability(calibration: Calibration) -> Figure:
    """The reliability diagram: the accuracy of each bin of scores, with the number of its predictions."""
    figure = Figure((5.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for each in calibration.bins:
        axes.bar(each.low, each.accuracy, each.high - each.low, align="edge", color="#a8c0d8", edgecolor="white")
        axes.text((each.low + each.high) / 2, 0.01, f"{each.count:,}", ha="center", va="bottom", size=7, rotation=90)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", label="scores that are what they say")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share that is right")
    axes.set_title(f"Reliability, expected calibration error {calibration.error:.4f}")
    figure.legend(loc="outside lower center")
    return figure


def plot_threshold(evaluation: Evaluation) -> Figure:
    """Accuracy and coverage of the images that reach a threshold, or precision and recall of labels, against it."""
    many, suggested = evaluation.multi_label is not None, evaluation.suggested
    curve = _thinned(evaluation.curve)
    accuracy, coverage = ("precision", "recall") if many else ("right, of those that reach it", "images that reach it")
    figure = Figure((7.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    thresholds = [*curve.scores, 0.0]
    for shares, color, label in (
        (curve.accuracy, "#4878a8", accuracy),
        (curve.coverage, "#d08040", coverage),
    ):
        axes.step(thresholds, [*shares, *shares[-1:]], where="post", color=color, label=label)
    if suggested is not None:
        label = f"{suggested.threshold:.4g}, for {evaluation.target_precision:.1%} right"
        axes.axvline(suggested.threshold, color="grey", linestyle="--", label=label)
    title = f"{'Precision and recall' if many else 'Accuracy'} against threshold"
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold", ylabel="share", title=title)
    axes.legend(loc="lower left")
    return figure


def _thinned(curve: Curve) -> Curve:
    """The curve with no more points than can be seen, the last among them."""
    points = np.unique(np.linspace(0, max(len(curve.scores) - 1, 0), _MOST_POINTS).astype(int))[: len(curve.scores)]
    return Curve(curve.scores[points], curve.coverage[points], curve.accuracy[points])


def _short(name: str) -> str:
    short = printable(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")
    return short.replace("$", r"\$")  # a bare $ begins a formula
