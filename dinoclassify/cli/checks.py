"""What commands that read rows have in common: the name of the file, and what is wrong with images."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dinoclassify.cli.options import DASH
from dinoclassify.errors import UsageError

if TYPE_CHECKING:
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.only import Only

log = logging.getLogger("dinoclassify")

_MOST_WARNINGS = 20


def required(results: str | None) -> str:
    """The file of rows that was named.

    Raises:
        UsageError: none was.
    """
    if not results:
        raise UsageError("name a file that predict wrote, or - for its rows on stdin")
    return results


def chosen(names: Sequence[str] | None, results: str, groups: "Groups | None" = None) -> "Only | None":
    """The labels of ``--only``, if it is given; those of stdin are not known before its rows come.

    Raises:
        UsageError: there are no such labels, or the rows cannot be read.
    """
    from dinoclassify.results.only import choose
    from dinoclassify.results.reader import read_predictions

    if not names:
        return None
    rows = read_predictions(results) if results != DASH else iter(())
    return choose(names, {rank.index: rank.label for row in rows for rank in row.top}, groups)


def warn_of_only(only: "Only | None") -> None:
    """Say which names of ``--only`` no row had."""
    if only is not None and (trouble := only.trouble()) is not None:
        log.warning("%s", trouble)


def warn_of(message: str, troubles: int) -> None:
    """Say what is wrong with an image, if it is one of the first; ``troubles`` counts those so far, and this one."""
    if troubles <= _MOST_WARNINGS:
        log.warning("%s", message)


def warn_of_all(troubles: int, *, gone: int, rows: int) -> None:
    """Say how many troubles have not been said, and what may be wrong where all images are gone."""
    if troubles > _MOST_WARNINGS:
        log.warning("and so %s more", f"{troubles - _MOST_WARNINGS:,}")
    if rows and gone == rows:
        where = "relative paths begin in the folder in which predict ran, or in the current one"
        log.warning("no image is where its row says: %s", where)
