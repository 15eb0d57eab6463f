"""A file of class names, to use in place of the model's own."""

import json
import os

from dinoclassify.errors import UsageError


def read_labels(path: str) -> list[str]:
    """The class names in a file, by index.

    ``.json``: a list, or an object from index to name as in a model's ``id2label``. ``.csv``: the column ``label``, in
    the order of the column ``index`` if there is one. Anything else: one name a line.

    Raises:
        UsageError: the file cannot be read, or is not what its name says.
    """
    readers = {".json": _from_json, ".csv": _from_csv}
    try:
        return readers.get(os.path.splitext(path)[1].lower(), _from_lines)(path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "see `dinoclassify predict --help` for its form"
        raise UsageError(f"cannot read the labels {path}: {reason}") from error


def _from_json(path: str) -> list[str]:
    with open(path, encoding="utf-8-sig") as file:
        content = json.load(file)
    if isinstance(content, dict):
        content = [content[str(index)] for index in range(len(content))]
    return [str(name) for name in content]


def _from_csv(path: str) -> list[str]:
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "index" in table:
        table = table.set_index(table["index"].astype(int)).loc[list(range(len(table)))]
    return table["label"].tolist()


def _from_lines(path: str) -> list[str]:
    with open(path, encoding="utf-8-sig") as file:
        return file.read().splitlines()
