"""A file that `predict` wrote -> its predictions, whatever its format and number of ranks."""

import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from dinoclassify.classes import are_imagenets, imagenet_labels, match_classes
from dinoclassify.errors import UsageError
from dinoclassify.evaluation import Answer
from dinoclassify.labelled import Labelled
from dinoclassify.outputs import read_lines
from dinoclassify.rows import Prediction, file_shown_as
from dinoclassify.writers import choose_format, open_format

log = logging.getLogger(__name__)

_LONGEST_INDEX = 5  # digits
_MOST_CLASSES = 1_000_000
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
    except KeyError as error:
        raise UsageError(f"{name} is not what predict writes: it has no {error}") from error
    except (TypeError, ValueError, RecursionError, sqlite3.Error) as error:
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


def known_answers(
    name: str, pictures: Sequence[Labelled], classes: Sequence[str], *, multi_label: bool
) -> tuple[list[Answer], list[str]]:
    """The rows of a file for pictures of which something is known, and the names of the classes, by index.

    Args:
        name: see `read_predictions`.
        pictures: what is known of them. Paths are the same if they lead to the same place.
        classes: all labels that these have.
        multi_label: rows have the scores of all classes, so that there are no others; nor are there of ImageNet's.

    Raises:
        UsageError: see `read_predictions`; or there are no such rows.
    """
    truths = {os.path.abspath(picture.path): picture.labels for picture in pictures}
    rows = {os.path.abspath(file_shown_as(row.path)): row for row in read_predictions(name)}
    found = {path: row for path, row in rows.items() if path in truths}
    if not found:
        raise UsageError(f"{name} has no rows for these pictures, such as {pictures[0].path}: are paths the same?")
    if lacking := len(truths) - len(found):
        log.warning("%s pictures have no row in %s", f"{lacking:,}", name)
    if others := len(rows) - len(found):
        log.warning("%s rows of %s are of other pictures and left out", f"{others:,}", name)
    known = {label.index: label.label for row in found.values() for label in row.top}
    if max(known, default=0) >= _MOST_CLASSES:
        raise UsageError(f"{name} has a class of index {max(known)}: is it what predict wrote?")
    labels = _labels(known, classes)
    index_of = match_classes(classes, labels, name, all_known=multi_label or are_imagenets(known))
    for label in classes:
        if label not in index_of:
            log.warning("%s is never predicted in %s", label, name)
            index_of[label] = len(labels)
            labels.append(label)
        elif not labels[index_of[label]]:
            labels[index_of[label]] = label  # an index
    return [(row, tuple(index_of[label] for label in truths[path])) for path, row in found.items()], labels


def _labels(known: Mapping[int, str], classes: Sequence[str]) -> list[str]:
    """The names of the classes, by index, as far as they are known: all of them if they are ImageNet's."""
    if are_imagenets(known):
        return [known.get(index, label) for index, label in enumerate(imagenet_labels())]
    indices = list(known)
    if not any(label.isdecimal() for label in known.values()):
        indices += [int(name) for name in classes if name.isdecimal() and len(name) <= _LONGEST_INDEX]
    return [known.get(index, "") for index in range(max(indices, default=-1) + 1)]
