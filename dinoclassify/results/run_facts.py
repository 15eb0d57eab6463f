"""What the run metadata say of rows: what kind of model made them, and which labels a row may lack."""

from dataclasses import dataclass

from dinoclassify.discovery.location import STDIN
from dinoclassify.results.reader import read_meta


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What kind of model made the rows, and the threshold and the top-k of the run; None where nothing says."""

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
