"""Rows -> the columns of data that the page's script reads, with labels, folders and errors as indices into tables."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import get_args
from urllib.parse import quote

from dinoclassify.storage.paths import shown_path
from dinoclassify.types.prediction import Label, Prediction, Status

_NAMELESS = "(no name)"

STATUSES: tuple[Status, ...] = get_args(Status)

# Characters that could end the script element of the data or begin another one, as JSON escapes.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})

# Characters that reorder the text after them, break the line or cannot be shown.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


def as_columns(
    rows: Sequence[Prediction],
    group: Callable[[Prediction], str] | None,
    links: Mapping[int, str],
    thumbnails: Sequence[int],
    most: int,
) -> dict[str, object]:
    """The data that the page's script reads; the indices of rows stand for them.

    ``group`` returns the group of a row that has a label, ``links`` are URLs of images, ``thumbnails`` the rows with
    an embedded image. The page shows up to ``most`` images of a label.
    """
    folders, labels, groups, errors = _numbers(), _numbers(), _numbers(), _numbers()
    parts = [_split(visible(shown_path(row.path))) for row in rows]
    shown = shown_labels(rows)
    return {
        "name": [name for _, name in parts],
        "folder": [folders[folder] for folder, _ in parts],
        "status": "".join(str(STATUSES.index(row.status)) for row in rows),
        "label": [labels[shown(row.top[0])] if row.top else -1 for row in rows],
        "score": [row.top[0].rounded_score if row.top else None for row in rows],
        "further": [_further(row.top[1:], labels, shown) for row in rows]
        if any(len(row.top) > 1 for row in rows)
        else None,
        "group": [groups[visible(group(row))] if row.top else -1 for row in rows] if group is not None else None,
        "error": {
            number: errors[row.failure.code, visible(row.failure.message)]
            for number, row in enumerate(rows)
            if row.failure is not None
        },
        "size": [row.size for row in rows],
        "modified": [None if row.mtime_ns is None else row.mtime_ns // 10**9 for row in rows],
        "links": dict(links),
        "thumbnails": list(thumbnails),
        "most": most,
        "folders": list(folders),
        "labels": list(labels),
        "groups": list(groups),
        "errors": list(errors),
    }


def shown_labels(rows: Iterable[Prediction]) -> Callable[[Label], str]:
    """A function that returns the displayed name of a class: with its index if several classes share the name."""
    indices: dict[str, set[int]] = {}
    for row in rows:
        for rank in row.top:
            indices.setdefault(rank.label, set()).add(rank.index)

    def name(rank: Label) -> str:
        shared = len(indices[rank.label]) > 1
        return visible(f"{rank.label} ({rank.index})" if shared else rank.label) or _NAMELESS

    return name


def visible(text: str) -> str:
    r"""The text with invisible and misleading characters escaped, as in ``\u202e``."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def as_json(columns: Mapping[str, object]) -> str:
    """The data as JSON that is safe inside a script element."""
    return json.dumps(columns, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def url_of(image: str, folder: str) -> str | None:
    """The relative URL of an image for a page in ``folder``; None if the image does not exist."""
    return quote(os.fsencode(os.path.relpath(image, folder))) if os.path.isfile(image) else None


def _numbers() -> defaultdict[object, int]:
    """A table that numbers each new value, from 0."""
    return defaultdict(count().__next__)


def _split(path: str) -> tuple[str, str]:
    """The folder, with its trailing slash, and the name."""
    start = path.rfind("/") + 1
    return path[:start], path[start:]


def _further(ranks: Sequence[Label], labels: defaultdict[object, int], shown: Callable[[Label], str]) -> list[float]:
    """Label number and score of each rank, in one flat list."""
    return [value for rank in ranks for value in (labels[shown(rank)], rank.rounded_score)]
