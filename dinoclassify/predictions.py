"""A file that `predict` wrote -> its predictions, whatever its format and number of ranks."""

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from dinoclassify.classes import are_imagenets, imagenet_labels
from dinoclassify.errors import UsageError
from dinoclassify.outputs import read_lines
from dinoclassify.rows import Prediction
from dinoclassify.writers import choose_format, open_format

_RANK = re.compile(r"label(_\d+)?")  # a column of each rank


def read_predictions(name: str) -> Iterator[Prediction]:
    """All predictions of a file, in order; its suffix says its format, as it does for `predict`.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    if not os.path.isfile(name):
        raise UsageError(f"there is no file {name}")
    try:
        made = choose_format(name, None).name
        row_format = open_format(made, max(1, sum(bool(_RANK.fullmatch(column)) for column in _columns(name, made))))
        table = row_format.table
        yield from table.read(name) if table is not None else read_lines(name, row_format.lines)
    except (KeyError, TypeError, ValueError, sqlite3.Error) as error:
        raise UsageError(f"{name} is not what predict writes ({error})") from error
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error


def _columns(name: str, made: str) -> Iterable[str]:
    """The names of its columns; none for lines that each have their own."""
    match made:
        case "csv":
            from dinoclassify.writers.csv import split

            with open(name, "rb") as file:
                return split(file.readline())
        case "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(name).names)
        case "sqlite":
            with closing(sqlite3.connect(name)) as connection:
                return [column[0] for column in connection.execute("SELECT * FROM predictions LIMIT 0").description]
        case _:
            return ()


def labels_of(predictions: Iterable[Prediction]) -> list[str]:
    """The names of the classes, by index, as far as predictions tell them: all of them if they are ImageNet's."""
    known = {label.index: label.label for prediction in predictions for label in prediction.top}
    if are_imagenets(known):
        return [known.get(index, label) for index, label in enumerate(imagenet_labels())]
    return [known.get(index, "") for index in range(max(known, default=-1) + 1)]
