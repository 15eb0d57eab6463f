"""Rows -> the rows of one shot together: what becomes of its images depends on all of them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dinoclassify.results.reader import FindFile
from dinoclassify.storage.atomic import free_of_links
from dinoclassify.types.prediction import Prediction


def count_shots(rows: Iterable[Prediction], find: FindFile) -> dict[str, int]:
    """How many rows there are of each stem, where there are several. The stems of all images are in memory meanwhile.

    Args:
        rows: all of them.
        find: gives the image of a row, see `results.reader.file_finder`.
    """
    counts = Counter(_stem(row, find) for row in rows)
    return {stem: count for stem, count in counts.items() if count > 1}


def together(
    rows: Iterable[Prediction], counts: Mapping[str, int] | None, find: FindFile
) -> Iterator[list[Prediction]]:
    """The same rows, those of one stem together: they are in memory until the last of them comes.

    Args:
        rows: the same as those that were counted.
        counts: see `count_shots`; None gives each row by itself.
        find: likewise.
    """
    waiting: dict[str, list[Prediction]] = {}
    for row in rows:
        stem = _stem(row, find) if counts else ""
        if not counts or stem not in counts:
            yield [row]
            continue
        of_stem = waiting.setdefault(stem, [])
        of_stem.append(row)
        if len(of_stem) == counts[stem]:
            yield waiting.pop(stem)
    yield from waiting.values()  # the file has changed since


def _stem(row: Prediction, find: FindFile) -> str:
    return os.path.splitext(free_of_links(find(row)))[0]
