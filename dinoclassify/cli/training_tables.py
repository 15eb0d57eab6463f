"""The scores of a training as tables."""

from collections.abc import Mapping

from dinoclassify.cli.terminal import print_lines, print_table, say
from dinoclassify.training.advice import warnings_of, would_more_help
from dinoclassify.training.scores import Score
from dinoclassify.training.train import HEAD, Trained


def show(trained: Trained, test: str | None, *, multi_label: bool) -> None:
    """Print the scores on held-out images, on those of the ``test``, and by number of images; then advice."""
    right = "answers right" if multi_label else "accuracy"
    _show("held out", trained.scores, right)
    if trained.test:
        print_lines([""])
        _show(f"test: {test}", trained.test, right)
    print_lines([""])
    points = {f"{point.images:,.0f} images ({point.share:.0%})": point.score for point in reversed(trained.curve)}
    print_table([_cells("trained on", name, score, right) for name, score in points.items()], as_json=False)
    for warning in warnings_of(trained):
        say(warning)
    say(would_more_help(trained))


def _show(title: str, scores: Mapping[str, Score], right: str) -> None:
    rows = []
    for method, score in scores.items():
        is_other = method != HEAD
        rows.append(
            _cells(title, method, score, right)
            | {
                "only head": f"{score.head_only:,}" if is_other else None,
                "only this": f"{score.this_only:,}" if is_other else None,
                "p": _p(score.p_value) if is_other else None,
            }
        )
    print_table(rows, as_json=False)


def _cells(title: str, name: str, score: Score, right: str) -> dict[str, object]:
    low, high = score.interval
    return {
        title: name,
        right: f"{score.accuracy:.4f}",
        "95 %": f"{low:.4f} to {high:.4f}",
        "mean F1": f"{score.f1:.4f}",
    }


def _p(p_value: float) -> str:
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"
