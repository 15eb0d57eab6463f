"""A file of class names, which replace the model's own."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from dinoclassify.errors import UsageError
from dinoclassify.storage.missing import why_unread

_FORMS = {".csv": "a column label, and UTF-8", ".json": "a list of names, or an object from index to name"}


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The class names in the file ``source``, by index."""

    names: tuple[str, ...]
    source: str


def read_labels(path: str) -> LabelFile:
    """The class names in a file; raises UsageError for one that cannot be read or has another form.

    ``.json``: a list, or an object from index to name as in a model's ``id2label``. ``.csv``: the column ``label``, in
    the order of the column ``index`` if there is one. Anything else: one name a line.
    """
    readers = {".json": _from_json, ".csv": _from_csv}
    names: dict[int, str] = {}
    try:
        for place, index, name in readers.get(os.path.splitext(path)[1].lower(), _from_lines)(path):
            if not name.strip():
                raise UsageError(f"{path}, {place}: the name of class {index} is empty, but every class needs one")
            if index in names:
                raise UsageError(f"{path}, {place}: class {index} has two names: leave one out")
            name.encode("utf-8")  # raises ValueError if no file of rows could hold it
            names[index] = name
        return LabelFile(tuple(names[index] for index in range(len(names))), path)
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError, csv.Error) as error:
        if isinstance(error, OSError):
            raise UsageError(why_unread("the labels", path, error)) from error
        form = _FORMS.get(os.path.splitext(path)[1].lower(), "UTF-8 text with one name a line")
        raise UsageError(f"cannot read the labels {path}: it needs {form}") from error


def _from_json(path: str) -> Iterator[tuple[str, int, str]]:
    with open(path, encoding="utf-8-sig") as file:
        content = json.load(file)
    for key, name in content.items() if isinstance(content, dict) else enumerate(content):
        yield f"index {key}", int(key), "" if name is None else str(name)


def _from_csv(path: str) -> Iterator[tuple[str, int, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        columns = next(rows, [])
        label = columns.index("label")
        for number, row in enumerate(row for row in rows if row or len(columns) == 1):
            index = int(row[columns.index("index")]) if "index" in columns else number
            yield f"line {rows.line_num}", index, row[label] if row else ""


def _from_lines(path: str) -> Iterator[tuple[str, int, str]]:
    with open(path, encoding="utf-8-sig") as file:
        for index, name in enumerate(file.read().splitlines()):
            yield f"line {index + 1}", index, name
