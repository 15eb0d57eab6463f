"""What commands that read rows have in common: the name of the file, and what is wrong with pictures."""

import logging

from dinoclassify.errors import UsageError

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


def warn_of(message: str, troubles: int) -> None:
    """Say what is wrong with a picture, if it is one of the first; ``troubles`` counts those so far, and this one."""
    if troubles <= _MOST_WARNINGS:
        log.warning("%s", message)


def warn_of_all(troubles: int, *, gone: int, rows: int) -> None:
    """Say how many troubles have not been said, and what may be wrong where all pictures are gone."""
    if troubles > _MOST_WARNINGS:
        log.warning("and so %s more", f"{troubles - _MOST_WARNINGS:,}")
    if rows and gone == rows:
        where = "relative paths begin in the folder in which predict ran, or in the current one"
        log.warning("no picture is where its row says: %s", where)
