"""The score from which a label of a multi-label model is given."""

from collections.abc import Sequence

from dinoclassify.errors import UsageError
from dinoclassify.results.run_facts import RunFacts
from dinoclassify.types.prediction import LIKELY, Prediction


def choose_threshold(
    rows: Sequence[Prediction], facts: RunFacts, classes: int, asked: float | None, name: str
) -> float:
    """The score from which a label of a multi-label model is given: the one asked for, or that of the run, or 0.5.

    Rows of such a model need not have the scores of all ``classes``.

    Raises:
        UsageError: a row may lack labels that reach it.
    """
    own = facts.threshold
    threshold = asked if asked is not None else own or LIKELY
    lacking = [row for row in rows if row.top and len(row.top) < classes]
    if not lacking:
        return threshold
    ranks = {len(row.top) for row in rows if row.top}
    if own is None:
        own = LIKELY if len(ranks) > 1 else 0.0  # what predict does by default, as rows without metadata do not tell
    if threshold < own:
        lack = f"the rows of {name} lack labels with a score below {own:g}"
        raise UsageError(f"--threshold {threshold:g}: {lack}: choose that, or run predict with a lower one")
    most = facts.top_k or max(ranks)
    cut = next((row for row in lacking if len(row.top) >= most and row.top[-1].score >= threshold), None)
    if cut is not None:
        cure = "run predict with a larger --top-k, or leave out --multi-label if the model gives one label an image"
        raise UsageError(f"{cut.path} in {name} may lack labels that reach {threshold:g}: {cure}")
    return threshold
