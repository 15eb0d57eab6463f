"""Watches that run in the process of a test, and the rows that they write."""

from pathlib import Path

from dinoclassify.cli import run
from tests.helpers.drop_folder import HEADER

WATCH = "predict --watch inbox -m builtin -j 1 -o labels.csv"


def names_in(*paths: str) -> list[str]:
    """The names of the rows in files, each of which has a header."""
    lines = [Path(path).read_text().splitlines() for path in paths]
    assert all(each[0] == HEADER for each in lines)
    return [line.split(",")[0] for each in lines for line in each[1:]]


def names_after_watch(limit: int, *more: str) -> list[str]:
    """The names of the rows in the output after a watch that ends after ``limit`` new images."""
    assert run([*WATCH.split(), "--limit", str(limit), *more]) in {0, 3}
    return names_in("labels.csv")
