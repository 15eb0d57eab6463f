"""The folders that runs of sort make, and that --undo removes when they are empty."""

import os
from collections.abc import Sequence
from contextlib import suppress

from dinoclassify.results.sort.journal import Entry
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.missing import check_into


def make_folder(folder: str) -> list[str]:
    """Make a folder and its parents; returns the ones that were missing, outermost first.

    Raises:
        UsageError: ``folder`` is a file.
        OutputError: it cannot be made.
    """
    check_into(folder)
    missing: list[str] = []
    path = os.path.realpath(folder)  # as in `find_journal`
    while not os.path.lexists(path):
        missing.insert(0, path)
        path = os.path.dirname(path)
    with as_output_errors(folder):
        os.makedirs(folder, exist_ok=True)
    return missing


def own_folders(journal: str, entries: Sequence[Entry]) -> list[str]:
    """The folder of a journal and its parents, as far as runs have made them, outermost first."""
    made = [entry.target for entry in entries if entry.event == "mkdir" and os.path.isabs(entry.target)]
    return [folder for folder in made if f"{os.path.dirname(journal)}/".startswith(f"{folder}/")]


def remove_empty(folders: Sequence[str]) -> None:
    """Remove folders that are empty, last first."""
    for path in reversed(folders):
        with suppress(OSError):  # it is not empty, or is gone
            os.rmdir(path)
