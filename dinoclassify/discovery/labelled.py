"""Images with known labels, for training and evaluation: from one folder for each class, or from a table."""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.filters import Filters, InputSelector, has_image_suffix
from dinoclassify.discovery.path_list import table_rows
from dinoclassify.discovery.roots import check_roots
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.paths import shown_path

log = logging.getLogger(__name__)

SEPARATOR = ";"  # between the labels of an image that may have many

_WHOLE = re.compile(r"-?\d+\.0")  # as pandas writes a column of integers in which one is missing


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image and its labels: one, or with ``many`` any number. Images of one ``group`` are not independent."""

    path: str
    labels: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A ``.csv`` or ``.parquet`` table with an image and its labels in each row, and perhaps its group."""

    name: str
    path_column: str = "path"
    label_column: str = "label"
    group_column: str | None = None


def read_folders(root: str) -> tuple[list[Labelled], tuple[str, ...]]:
    """The images below ``root``, labelled with the name of the folder directly below it; and all classes.

    Raises UsageError or NoInputsError if ``root`` or a folder in it is missing or cannot be listed, or if there are no
    images.
    """
    check_roots([root], InputSelector(Filters()))
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a folder; for a table of labels write --labels-from {root}")
    visible = sorted(name for name in os.listdir(root) if not name.startswith("."))
    folders = [name for name in visible if os.path.isdir(os.path.join(root, name))]  # links to folders too
    if not folders:
        raise UsageError(f"{root} has no folders in it: put the images of each class into one named after it")
    if loose := sum(has_image_suffix(name) for name in set(visible) - set(folders)):
        lie = "lies" if loose == 1 else "lie"
        log.warning("%s %s in %s itself, not in the folder of a class: left out", count_of(loose, "image"), lie, root)
    check_roots([os.path.join(root, name) for name in folders], InputSelector(Filters()))
    images = []
    for name in folders:
        label = (shown_path(name),)
        images += [Labelled(source.path, label) for source in discover([os.path.join(root, name)])]
    if not images:
        raise NoInputsError(f"no images in the folders of {root}: put the images of each class into its folder")
    return images, tuple(map(shown_path, folders))


def read_table(table: LabelTable, folder: str | None = None, *, many: bool = False) -> list[Labelled]:
    """The images of a table, each once. Relative paths start from ``folder``, by default the current one.

    With ``many`` an image may have many labels, separated by semicolons, or none; otherwise rows without a label are
    left out. Raises UsageError if the table has different labels for an image, and NoInputsError if it has no images.
    """
    images: dict[str, Labelled] = {}
    unlabelled = 0
    for name, text, group in _without_points(list(_rows(table))):
        labels = _split(text, SEPARATOR) if many else _split(text, None)
        if not (labels or many):
            unlabelled += 1
            continue
        path = os.path.join(folder, name) if folder is not None else name
        known = images.setdefault(os.path.abspath(path), Labelled(path, labels, group))
        if known.labels != labels:
            first, second = (SEPARATOR.join(each) or "nothing" for each in (known.labels, labels))
            raise UsageError(
                f"{table.name} has two rows for {path} with different labels, {first} and {second}: leave one out"
            )
    if table.group_column is not None and (alone := sum(not image.group for image in images.values())):
        log.warning("%s of %s without a group: each counts by itself", count_of(alone, "image"), table.name)
    if unlabelled:
        log.warning("%s of %s without a label: left out", count_of(unlabelled, "row"), table.name)
    if not images:
        columns = f"{table.path_column} and {table.label_column}"
        raise NoInputsError(f"{table.name} has no images with labels: fill in its columns {columns}")
    return list(images.values())


def _rows(table: LabelTable) -> Iterator[tuple[str, str, str]]:
    columns = {"--column": table.path_column, "--label-column": table.label_column}
    if table.group_column is not None:
        columns["--group-column"] = table.group_column
    for path, label, *group in table_rows(table.name, columns):
        if "\0" in path:
            raise UsageError(f"{table.name} has a path with a NUL in it, {path}: mend it")
        if path:
            yield path, label, "".join(group)


def _without_points(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The rows with labels ``1`` in place of ``1.0``, if all labels look like that: they are integers."""
    if not all(_WHOLE.fullmatch(label) for _, label, _ in rows if label):
        return rows
    return [(path, label.removesuffix(".0"), group) for path, label, group in rows]


def _split(text: str, separator: str | None) -> tuple[str, ...]:
    parts = shown_path(text).split(separator) if separator is not None else [shown_path(text)]
    return tuple(sorted({part.strip() for part in parts} - {""}))
