"""Rows as `predict` writes them, of files that are there."""

import os
from collections.abc import Sequence

from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats import open_format


def row_of(path: str, label: str = "dog", score: float = 0.9, index: int = 1, *more: Label) -> Prediction:
    """The row of a file as it is now."""
    status = os.stat(path)
    top = (Label(label, index, score), *more)
    return Prediction(path, "ok", top, size=status.st_size, mtime_ns=status.st_mtime_ns)


def write_rows(name: str, rows: Sequence[Prediction], made: str = "") -> str:
    """Write rows in a format, or that of the suffix; gives the name."""
    row_format = open_format(made or name.rsplit(".", 1)[1], max((len(row.top) for row in rows), default=1))
    with open(name, "wb") as file:
        row_format.write(file, rows, {})
    return name
