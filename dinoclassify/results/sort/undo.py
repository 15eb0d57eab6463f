"""A journal -> its transfers taken back, or repaired after a run that was killed.

The disk shows whether a transfer was made, and how far; so everything here can be killed and run again. Taking back
never loses an image: a copy is removed only if the original exists and has the same content.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from dinoclassify.errors import OutputError
from dinoclassify.results.sort.journal import Entry, append_entries, replace_entries, valid_entries
from dinoclassify.results.sort.transfer import TRANSFERS, identity, lost, move, remove, restore, same_content
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.signature import file_signature

log = logging.getLogger(__name__)


Step: TypeAlias = Literal["move", "remove the copy", "remove the link"]  # takes a transfer back


@dataclass(frozen=True, slots=True)
class UndoResult:
    """A transfer that was taken back by a ``step``, or the reason ``why`` it was left.

    ``lost``: attributes of the image that could not be restored, see `results.sort.transfer.lost`.
    """

    source: str
    target: str
    why: str | None = None
    step: Step | None = None
    lost: Sequence[str] = ()


class KeptError(Exception):
    """A transfer that is not taken back, as that would lose something."""


def repair(folder: str, entries: Sequence[Entry], *, is_own: bool) -> list[Entry]:
    """Repair the transfers of a killed run, so that each image is complete and in one place.

    Returns the moves whose image has since come back to its old place as another copy: both copies stay. ``is_own``:
    this user wrote the journal in ``folder``; no image is removed because of a journal that others wrote.

    Raises:
        OutputError: a file cannot be repaired.
    """
    returned = []
    for entry in valid_entries(entries):
        target = os.path.join(folder, entry.target)
        with as_output_errors(target):
            if entry.event in ("copy", "move"):
                remove(os.path.join(os.path.dirname(target), entry.temp_name))
            if entry.event == "move" and _are_separate(entry.source, target) and same_content(entry.source, target):
                if is_own and (identity(entry.source) == entry.identity or os.path.samefile(entry.source, target)):
                    os.unlink(entry.source)
                else:
                    returned.append(entry)
    if is_own:
        _take_companions_back(folder, valid_entries(entries))
    return returned


def _take_companions_back(folder: str, entries: Sequence[Entry]) -> None:
    """Take companions back to their image if the run was killed between them and the image."""
    images = {entry.image for entry in entries if entry.image}
    transferred = {entry.temp_name for entry in entries if entry.temp_name in images and _is_made(entry, folder)}
    for entry in reversed(entries):
        if entry.image and entry.image not in transferred and entry.event in TRANSFERS:
            target = os.path.join(folder, entry.target)
            with as_output_errors(target), suppress(KeptError):
                if take_back(entry, target):
                    log.warning(
                        "%s is put back beside its image, which the interrupted run had not reached", entry.source
                    )


def _is_made(entry: Entry, folder: str) -> bool:
    """Whether a transfer was made; a moved file may have been moved on since."""
    if entry.event == "move":
        return not os.path.lexists(entry.source)
    return os.path.lexists(os.path.join(folder, entry.target))


def undo_all(
    path: str, entries: Sequence[Entry], *, key: bytes | None = None, root: str | None = None, dry_run: bool = False
) -> Iterator[UndoResult]:
    """Take all transfers back, last first; yields each that is taken back or left.

    The journal ``path`` keeps what is left, and is removed if that is nothing. Empty folders that runs have made are
    removed, except the folder of the journal and its parents: see `own_folders`. ``key`` signs new entries; None if the
    journal is not the user's own. With ``root``, transfers from outside it, and to outside the journal's folder, stay.

    Raises:
        OutputError: the journal cannot be written.
    """
    folder, is_own = os.path.dirname(path), key is not None
    left: list[Entry] = []
    restored: set[str] = set()  # sources of the transfers taken back: a dry run leaves the files themselves in place
    for entry in reversed(valid_entries(entries)):
        target = os.path.join(folder, entry.target)
        if entry.event == "mkdir":
            is_inside = root is None or _is_below(target, folder)
            if is_inside and not os.path.isabs(entry.target) and not dry_run:
                remove_empty([target])
            left.append(entry)
        elif entry.event in TRANSFERS:
            try:
                if root is not None:
                    _check_places(entry, root, target, folder)
                would_be_there = dry_run and target in restored
                step = _step(entry) if would_be_there else take_back(entry, target, is_own=is_own, dry_run=dry_run)
            except (KeptError, OSError) as error:
                left.append(entry)
                yield UndoResult(entry.source, target, getattr(error, "strerror", None) or str(error))
                continue
            if not dry_run:  # for an undo after a kill; not synced, as the disk shows what was taken back last
                void = Entry("void", entry.target, temp_name=entry.temp_name)
                with suppress(OutputError):  # the disk may be full, and taking back may free space
                    append_entries(path, [void], key=key, sync=False)
            if step is not None:
                restored.add(entry.source)
                is_checked = entry.event == "move" and not dry_run
                missing = lost(entry.source, entry.signature, entry.rights) if is_checked else ()
                yield UndoResult(entry.source, target, step=step, lost=missing)
    if not dry_run:
        is_left = any(entry.event != "mkdir" for entry in left)
        replace_entries(path, [*left[::-1], Entry("end")] if is_left else [], key=key)


def _step(entry: Entry) -> Step:
    """The step that takes a transfer back if its file is at the target."""
    if entry.event == "move" and not os.path.lexists(entry.source):
        return "move"
    return "remove the link" if entry.event in ("symlink", "hardlink") else "remove the copy"


def own_folders(journal: str, entries: Sequence[Entry]) -> list[str]:
    """The folder of a journal and its parents, as far as runs have made them, outermost first."""
    made = [entry.target for entry in entries if entry.event == "mkdir" and os.path.isabs(entry.target)]
    return [folder for folder in made if f"{os.path.dirname(journal)}/".startswith(f"{folder}/")]


def remove_empty(folders: Sequence[str]) -> None:
    """Remove folders that are empty, last first."""
    for path in reversed(folders):
        with suppress(OSError):  # it is not empty, or is gone
            os.rmdir(path)


def _check_places(entry: Entry, root: str, target: str, folder: str) -> None:
    """Check that a transfer stays within two folders, whatever links its paths have; raises KeptError if not."""
    if not _is_below(entry.source, root):
        raise KeptError(f"{entry.source} is not below {root}")
    if not _is_below(target, folder):
        raise KeptError(f"it is not below {folder}")
    if entry.event == "move" and os.path.islink(target):
        raise KeptError("it is a symbolic link, which sort does not move")


def _is_below(path: str, folder: str) -> bool:
    """Whether a path has no ``..``, and leads into the folder once links are resolved."""
    above = os.path.join(os.path.realpath(os.path.dirname(path)), "")
    return os.path.normpath(path) == path and above.startswith(os.path.join(os.path.realpath(folder), ""))


def take_back(entry: Entry, target: str, *, is_own: bool = True, dry_run: bool = False) -> Step | None:
    """Take a transfer back, however far it got; returns the step, None if there was nothing to do.

    ``target`` is the path of the file now; ``is_own``: this user wrote the journal, see `transfer.restore`.

    Raises:
        KeptError: taking it back would lose something.
        OSError: it cannot be taken back.
    """
    source, is_move, step = entry.source, entry.event == "move", _step(entry)
    if not dry_run:
        for place in (target, source):  # beside the source, if an earlier move back was killed
            remove(os.path.join(os.path.dirname(place), entry.temp_name))
    if not os.path.lexists(target):
        if step == "move":
            raise KeptError(f"it is gone, and is not at {source} either")
        return None
    if step == "move":
        if not dry_run:
            os.makedirs(os.path.dirname(source), exist_ok=True)
            move(
                target,
                source,
                entry.temp_name,
                partial(restore, signature=entry.signature, rights=entry.rights, is_own=is_own),
            )
        return step
    if is_move and file_signature(source) == entry.signature and not same_content(source, target):
        return None  # it was not made: the target was taken
    if is_move and _are_same_name(source, target):
        return None  # it is at its old place
    if not _is_removable(entry, target):
        raise KeptError(_why_kept(source))
    if not dry_run:
        os.unlink(target)
    return step


def _is_removable(entry: Entry, target: str) -> bool:
    """Whether the target may be removed: it is the link that was made, or the image is at its source as well."""
    if entry.event == "symlink":
        return os.path.islink(target) and os.readlink(target) == entry.source
    return _are_separate(entry.source, target) and same_content(entry.source, target)


def _why_kept(source: str) -> str:
    if not os.path.lexists(source):
        return f"its original {source} is gone: keep it, or move it there yourself"
    return f"it differs from {source}, so one was changed: compare them, and remove the one you do not want"


def _are_separate(path: str, other: str) -> bool:
    """Whether both exist, and neither is the other or a link to it: one can be removed, and the other stays."""
    if not (os.path.exists(path) and os.path.exists(other)):
        return False
    return os.path.realpath(path) != os.path.realpath(other) and not _are_same_name(path, other)


def _are_same_name(path: str, other: str) -> bool:
    """Whether two paths are the same name of one file, by a bind mount or on a file system that ignores case."""
    if os.path.islink(path) or os.path.islink(other) or not os.path.samefile(path, other):
        return False
    return os.stat(other).st_nlink == 1 or os.path.realpath(path) == os.path.realpath(other)
