"""What is known of pictures, for training and tests: from folders, one for each class, or from a table."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from dinoclassify.discover import discover
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.lists import table_rows

log = logging.getLogger(__name__)

SEPARATOR = ";"  # between the labels of a picture that may have many


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and its labels: one or, where there may be many, any number."""

    path: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A ``.csv`` or ``.parquet`` table with a picture and its labels in each row."""

    name: str
    path_column: str = "path"
    label_column: str = "label"


def read_folders(root: str) -> tuple[list[Labelled], tuple[str, ...]]:
    """The pictures below ``root``, each of the class that the folder right below ``root`` is named after; all classes.

    Raises:
        UsageError: ``root`` is no folder, or has none in it.
        NoInputsError: there are no pictures.
    """
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a folder; for a table of labels write --labels-from {root}")
    with os.scandir(root) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UsageError(f"{root} has no folders in it: put the pictures of each class into one named after it")
    pictures, loose = [], 0
    for source in discover([root]):
        label, _, below = os.path.relpath(source.path, root).partition(os.sep)
        loose += not below
        if below:
            pictures.append(Labelled(source.path, (label,)))
    if loose:
        log.warning("%s pictures lie in %s itself, not in the folder of a class, and are left out", f"{loose:,}", root)
    if not pictures:
        raise NoInputsError(f"no pictures found in the folders of {root}")
    return pictures, tuple(classes)


def read_table(table: LabelTable, folder: str | None = None, *, many: bool = False) -> list[Labelled]:
    """The pictures of a table, each once.

    Args:
        table: its rows without a label are left out, unless there may be many.
        folder: what paths that are not absolute begin in; the current folder if it is not given.
        many: a picture may have many labels, with semicolons between, or none.

    Raises:
        UsageError: the table cannot be read, or says two things of one picture.
        NoInputsError: it has no rows.
    """
    pictures: dict[str, Labelled] = {}
    unlabelled = 0
    for name, text in _rows(table):
        labels = _split(text) if many else (text,)
        if not (text or many):
            unlabelled += 1
            continue
        path = os.path.join(folder, name) if folder is not None else name
        known = pictures.setdefault(path, Labelled(path, labels))
        if known.labels != labels:
            one, other = (SEPARATOR.join(some) or "nothing" for some in (known.labels, labels))
            raise UsageError(f"{table.name} says two things of {path}, {one} and {other}: leave one out")
    if unlabelled:
        log.warning("%s rows of %s have no label and are left out", f"{unlabelled:,}", table.name)
    if not pictures:
        raise NoInputsError(f"{table.name} has no pictures with labels")
    return list(pictures.values())


def _rows(table: LabelTable) -> Iterator[tuple[str, ...]]:
    rows = table_rows(table.name, {"--column": table.path_column, "--label-column": table.label_column})
    return (row for row in rows if row[0])


def _split(text: str) -> tuple[str, ...]:
    labels = (label.strip() for label in text.split(SEPARATOR))
    return tuple(sorted({label for label in labels if label}))
