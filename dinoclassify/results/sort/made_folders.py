"""The folders that runs of sort make, and that go with what was in them."""

import os
from collections.abc import Sequence
from contextlib import suppress

from dinoclassify.results.sort.journal import Entry
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.missing import check_into


def make_folder(folder: str) -> list[str]:
    """Make a folder, and those above it; gives those that were not there, the first above the next.

    Raises:
        UsageError: it is a file.
        OutputError: it cannot be made.
    """
    check_into(folder)
    missing: list[str] = []
    above = os.path.realpath(folder)  # as journals are known
    while not os.path.lexists(above):
        missing.insert(0, above)
        above = os.path.dirname(above)
    with as_output_errors(folder):
        os.makedirs(folder, exist_ok=True)
    return missing


def own_folders(path: str, entries: Sequence[Entry]) -> list[str]:
    """The folder of a journal and those above it, as far as a run has made them, the first above the next."""
    made = [entry.target for entry in entries if entry.event == "mkdir" and os.path.isabs(entry.target)]
    return [folder for folder in made if f"{os.path.dirname(path)}/".startswith(f"{folder}/")]


def remove_folders(paths: Sequence[str]) -> None:
    """Remove folders, the last first, as far as they are empty."""
    for path in reversed(paths):
        with suppress(OSError):  # there is something in it, or it is gone
            os.rmdir(path)
