"""Checks and warnings that several commands share."""

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import typer

from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import UsageError

if TYPE_CHECKING:
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.only import Only

log = logging.getLogger("dinoclassify")

_MOST_WARNINGS = 20


def reject_options(context: typer.Context, parameters: Collection[str], why: str) -> None:
    """Raise UsageError if one of these options and arguments, which would have no effect, is on the command line."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not None and source.name == "COMMANDLINE":
            name = parameter.opts[0]
            raise UsageError(f"{why}: leave out {name if name.startswith('-') else name.upper()}")


def require_results(results: str | None) -> str:
    """Return the name of the file of rows. Raises UsageError if the command line has none."""
    if not results:
        raise UsageError("name a file that predict wrote, or - for its rows on stdin")
    return results


def select_labels(names: Sequence[str] | None, results: str, groups: "Groups | None" = None) -> "Only | None":
    """Return the labels that ``--only`` selects, or None without that option.

    The labels of rows on stdin are not known yet, so no name is refused for these.

    Raises:
        UsageError: a label or group is unknown, or the rows cannot be read.
    """
    from dinoclassify.results.only import choose
    from dinoclassify.results.reader import read_predictions

    if not names:
        return None
    rows = read_predictions(results) if results != STDIN else iter(())
    return choose(names, {rank.index: rank.label for row in rows for rank in row.top}, groups)


def warn_of_unmatched_labels(only: "Only | None") -> None:
    """Warn of the names in ``--only`` that no row has."""
    if only is not None and (trouble := only.trouble()) is not None:
        log.warning("%s", trouble)


def warn_of_image(message: str, troubles: int) -> None:
    """Warn of an image, if it is among the first; ``troubles`` counts the images in trouble, including this one."""
    if troubles <= _MOST_WARNINGS:
        log.warning("%s", message)


def warn_of_rest(troubles: int, *, gone: int, rows: int) -> None:
    """Say how many warnings `warn_of_image` left out, and what may be wrong if all images are gone."""
    if troubles > _MOST_WARNINGS:
        log.warning("and %s more like these", f"{troubles - _MOST_WARNINGS:,}")
    if rows and gone == rows:
        cure = "change to the folder where predict ran (cd), or mount the disk of the images"
        log.warning("no image is where its row says: %s", cure)
