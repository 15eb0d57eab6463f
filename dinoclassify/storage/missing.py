"""Messages about a name that a user wrote and that is missing or unsuitable: why, and what to do."""

import codecs
import difflib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from dinoclassify.errors import UsageError

_NOT_THERE = "is not there"
_LET_READ = ": let this user read it"
_CHECK_NAME = "check its name, or mount its disk"
_LONGEST = 16 << 20  # bytes of a header
_MOST_NAMES = 10_000  # names in a folder to search for a similar one


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a name, and the cure; as text both, to complete a sentence that starts with the name."""

    reason: str
    cure: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.cure}"


def why_missing(path: str, others: Sequence[str] = ()) -> Trouble:
    """Why a path, as the user wrote it, is missing.

    ``others`` are names other than files that the user may have meant.
    """
    name = path.rstrip("/")
    if os.path.islink(name):
        return Trouble(f"links to {os.readlink(name)}, which is not there", _CHECK_NAME)
    if os.path.lexists(name):
        return Trouble("is a file, not a folder", "leave out the / at its end")
    if (home := home_of(path)) is not None:
        cure = f"the shell expands ~ only outside quotes; write {home}, or leave out the quotes"
        return Trouble(_NOT_THERE, cure)
    while not os.path.lexists(above := os.path.dirname(name) or "."):
        name = above
    if not os.path.isdir(above):
        return Trouble(f"{_NOT_THERE}, as {above} is a file, not a folder", "check its name")
    return Trouble(_NOT_THERE, _cure(above, os.path.basename(name), others))


def why_unread(content: str, path: str, error: OSError, others: Sequence[str] = ()) -> str:
    """The message that a file with this ``content`` cannot be read, after the error from opening it."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path} {why_missing(path, others)}"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder: name the file with {content}"
    reason = error.strerror or str(error)
    return f"cannot read {content} {path}: {reason}" + (_LET_READ if error.errno == errno.EACCES else "")


def why_no_folder(folder: str) -> Trouble:
    """Why a folder to write to does not exist, as a sentence, and the cure; ``folder`` is an absolute path."""
    above, name = folder, ""
    while not os.path.lexists(above):
        above, name = os.path.split(above)
    if not os.path.isdir(above):
        return Trouble(f"{above} is a file, not a folder", "choose another name")
    similar = _similar(above, name, _names_in(above) or ())
    return Trouble(
        f"there is no folder {folder}", f"did you mean {similar}?" if similar else "make it first (mkdir -p)"
    )


def check_into(folder: str) -> None:
    """Raise UsageError unless ``--into`` names a folder, or a new one."""
    if not folder:
        raise UsageError("--into '': that is no name; name a folder, new or not")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--into {folder}: that is a file; name a folder, new or not")


def why_saved_again(name: str) -> str | None:
    """The evidence that another program, such as a spreadsheet, saved a CSV file: then no rows of ours can be added."""
    try:
        with open(name, "rb") as file:
            start = file.readline(_LONGEST)
    except OSError:
        return None
    header = start.removeprefix(codecs.BOM_UTF8)
    if not header.startswith(b"path"):
        return None
    if header != start:
        return "it begins with a byte order mark"
    return "its lines end in CRLF" if start.endswith(b"\r\n") else None


def home_of(path: str) -> str | None:
    """A path with its leading ``~`` expanded as a shell does; None without ``~``, or if a file has that name."""
    home = os.path.expanduser(path)
    return None if home == path or os.path.lexists(path.partition("/")[0]) else home


def _cure(folder: str, name: str, others: Sequence[str]) -> str:
    """The cure if ``folder`` does not have ``name``."""
    if meant := _closest(name, others):
        return f"did you mean {meant}?"
    names = _names_in(folder)
    if names == [] and folder != ".":
        return f"{folder} is empty; is its disk mounted?"
    similar = _similar(folder, name, names or ())
    return f"did you mean {similar}?" if similar else _CHECK_NAME


def _names_in(folder: str) -> list[str] | None:
    """The first names in a folder; None if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _MOST_NAMES)]
    except OSError:
        return None


def _similar(folder: str, name: str, names: Sequence[str]) -> str | None:
    """The path of an entry of ``folder`` with a name similar to ``name``; None if there is none."""
    similar = _closest(name, names)
    return os.path.normpath(os.path.join(folder, similar)) if similar else None


def _closest(name: str, choices: Sequence[str]) -> str | None:
    """The choice whose stem is the most similar, and of these the one with the most similar suffix; or None."""
    stem, suffix = os.path.splitext(name)
    by_stem: dict[str, list[str]] = {}
    for choice in choices:
        by_stem.setdefault(os.path.splitext(choice)[0], []).append(choice)
    stems = difflib.get_close_matches(stem, by_stem, n=1)
    if not stems:
        return None
    return max(by_stem[stems[0]], key=lambda choice: _likeness(os.path.splitext(choice)[1], suffix))


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
