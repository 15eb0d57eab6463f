"""A row -> the file of its image, and whether that file has changed since."""

import logging
import os
from collections.abc import Callable

from dinoclassify.discovery.location import STDIN, is_local_file
from dinoclassify.results.reader import read_meta
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.remote.url import is_url
from dinoclassify.storage.signature import file_signature, same_signature
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

FindFile = Callable[[Prediction], str]

GONE = "is gone"
CHANGED = "has changed since it was labelled"
_NO_FILE = "is not a separate file on this machine: only such files can be sorted, tagged or shown"


def current_file(row: Prediction) -> str:
    """The path of a row's image, with relative paths resolved against the current folder."""
    return file_shown_as(row.path)


def file_finder(name: str) -> FindFile:
    """A function that gives the path of a row's image, for rows read from ``name``.

    Relative paths are resolved against the folder in which `predict` ran, if the metadata of the rows has it, else
    against the current folder. If both have the file, the one with the row's signature is taken, else the first.
    """
    folder = read_meta(name).get("working_folder") if name != STDIN else None
    if not isinstance(folder, str) or not os.path.isabs(folder) or not os.path.isdir(folder):
        return current_file
    if os.path.samefile(folder, os.curdir):
        return current_file
    log.info("relative paths begin in %s, where predict ran", folder)
    has_warned = False

    def find(row: Prediction) -> str:
        """Find the image file of a row."""
        nonlocal has_warned
        here = file_shown_as(row.path)
        if os.path.isabs(row.path) or is_url(row.path):
            return here
        there = file_shown_as(os.path.join(folder, row.path))
        files = [file for file in (there, here) if os.path.lexists(file)] or [there]
        matches = [file for file in files if why_stale(row, file) is None] or files
        if len(matches) > 1 and not has_warned and not os.path.samefile(*matches):
            log.warning("%s exists here and in %s, where predict ran: the files there count", row.path, folder)
            has_warned = True
        return matches[0]

    return find


def why_stale(row: Prediction, image: str) -> str | None:
    """Why a row does not describe its image as the file is now, as the rest of a sentence; None if it does."""
    if not is_local_file(image):
        return _NO_FILE
    signature = file_signature(image)
    if signature == (None, None):
        return GONE
    if not os.path.isfile(image):
        return "is no file"
    is_same = row.size is None or same_signature(signature, (row.size, row.mtime_ns))
    return None if is_same else CHANGED
