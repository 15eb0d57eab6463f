"""What the run metadata say of rows: which labels a row may lack."""

from collections.abc import Sequence
from dataclasses import dataclass

from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import UsageError
from dinoclassify.results.evaluation.labelled_prediction import YES
from dinoclassify.results.reader import read_meta
from dinoclassify.types.prediction import Prediction


@dataclass(frozen=True, slots=True)
class RunFacts:
    """How many classes the model has, and the threshold and the top-k of the run; None where nothing says."""

    multi_label: bool = False
    classes: int | None = None
    threshold: float | None = None
    top_k: int | None = None


def read_facts(name: str) -> RunFacts:
    """Read the run metadata of a file of rows. Rows on stdin have none."""
    meta = read_meta(name) if name != STDIN else {}
    model, made_with = (part if isinstance(part := meta.get(key), dict) else {} for key in ("model", "made_with"))
    classes, threshold, top_k = model.get("labels"), made_with.get("threshold"), made_with.get("top-k")
    return RunFacts(
        model.get("multi_label") is True,
        classes if isinstance(classes, int) else None,
        float(threshold) if isinstance(threshold, int | float) else None,
        top_k if isinstance(top_k, int) else None,
    )


def choose_threshold(
    rows: Sequence[Prediction], facts: RunFacts, classes: int, asked: float | None, name: str
) -> float:
    """The score from which a label of a multi-label model is given: the one asked for, or that of the run, or 0.5.

    Rows of such a model need not have the scores of all ``classes``.

    Raises:
        UsageError: a row may lack labels that reach it.
    """
    own = facts.threshold
    threshold = asked if asked is not None else own or YES
    lacking = [row for row in rows if row.top and len(row.top) < classes]
    if not lacking:
        return threshold
    ranks = {len(row.top) for row in rows if row.top}
    if own is None:
        own = YES if len(ranks) > 1 else 0.0  # what predict does by default, as rows without metadata do not tell
    if threshold < own:
        lack = f"the rows of {name} lack labels with a score below {own:g}"
        raise UsageError(f"--threshold {threshold:g}: {lack}: choose that, or run predict with a lower one")
    most = facts.top_k or max(ranks)
    cut = next((row for row in lacking if len(row.top) >= most and row.top[-1].score >= threshold), None)
    if cut is not None:
        lack = f"{cut.path} in {name} may lack labels, as all {len(cut.top)} that it has reach {threshold:g}"
        raise UsageError(f"{lack}: run predict with a larger --top-k")
    return threshold
