"""Rows -> the rows of each shot together: what happens to the images of a shot depends on all of them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dinoclassify.results.image_file import FindFile
from dinoclassify.storage.atomic import free_of_links
from dinoclassify.types.prediction import Prediction


def count_shots(rows: Iterable[Prediction], find: FindFile) -> dict[str, int]:
    """The number of rows of each stem that has several. The stems of all images are in memory meanwhile.

    Args:
        rows: all rows.
        find: gives the image of a row, see `results.image_file.file_finder`.
    """
    counts = Counter(_stem(row, find) for row in rows)
    return {stem: count for stem, count in counts.items() if count > 1}


def together(
    rows: Iterable[Prediction], counts: Mapping[str, int] | None, find: FindFile
) -> Iterator[list[Prediction]]:
    """The rows in groups: those of one stem together, in memory until the last of them comes.

    Args:
        rows: the rows that were counted.
        counts: see `count_shots`; with None each row is a group.
        find: gives the image of a row, see `results.image_file.file_finder`.
    """
    waiting: dict[str, list[Prediction]] = {}
    for row in rows:
        stem = _stem(row, find) if counts else ""
        if not counts or stem not in counts:
            yield [row]
            continue
        group = waiting.setdefault(stem, [])
        group.append(row)
        if len(group) == counts[stem]:
            yield waiting.pop(stem)
    yield from waiting.values()  # the file has changed since it was counted


def _stem(row: Prediction, find: FindFile) -> str:
    return os.path.splitext(free_of_links(find(row)))[0]
