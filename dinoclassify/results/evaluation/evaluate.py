"""Rows and true classes -> figures, of images with one true class each or with any number of them."""

from dinoclassify.results.evaluation.figures import Evaluation
from dinoclassify.results.evaluation.labelled_prediction import LabelledRows
from dinoclassify.results.evaluation.multi_label import judge_answers
from dinoclassify.results.evaluation.single_label import judge_best_labels


def evaluate(rows: LabelledRows, *, target_precision: float | None = None) -> Evaluation:
    """Compare rows with the true classes of their images.

    For ``target_precision``, the share of labels that should be right, a threshold is suggested: of best labels or,
    with many labels an image, of given ones.
    """
    judged = [each for each in rows.rows if each.row.top]
    failed = len(rows.rows) - len(judged)
    if not rows.multi_label:
        return judge_best_labels(judged, rows.labels, failed=failed, target_precision=target_precision)
    threshold = rows.threshold
    return judge_answers(judged, rows.labels, failed=failed, threshold=threshold, target_precision=target_precision)
