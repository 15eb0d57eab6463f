"""Rows and true classes -> figures, of images with one true class each or with any number of them."""

from collections.abc import Iterable, Sequence

from dinoclassify.results.evaluation.figures import Evaluation
from dinoclassify.results.evaluation.labelled_prediction import YES, LabelledPrediction
from dinoclassify.results.evaluation.multi_label import judge_answers
from dinoclassify.results.evaluation.single_label import judge_best_labels


def evaluate(
    predictions: Iterable[LabelledPrediction],
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    threshold: float = YES,
    target_precision: float | None = None,
) -> Evaluation:
    """Compare rows with the true classes of their images; ``labels`` are the class names, by index.

    With ``multi_label`` an image has any number of true classes, and is given those whose score is at least
    ``threshold``. A row must have these scores, and a score that it lacks counts as lower.

    For ``target_precision``, the share of labels that should be right, a threshold is suggested: of best labels or,
    with ``multi_label``, of given ones.
    """
    rows = list(predictions)
    labelled = [each for each in rows if each.row.top]
    failed = len(rows) - len(labelled)
    if not multi_label:
        return judge_best_labels(labelled, labels, failed=failed, target_precision=target_precision)
    return judge_answers(labelled, labels, failed=failed, threshold=threshold, target_precision=target_precision)
