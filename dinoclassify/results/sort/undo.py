"""What a journal says was done -> taken back, or brought into order after a run that was killed.

Whether a transfer was carried out, half or whole, is to be seen on the disk, and so all of this can be done again after
it was itself killed. Nothing is taken back that would lose an image: a copy goes only if the image that it was made
of is there and the same.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dinoclassify.errors import OutputError
from dinoclassify.results.sort.attributes import lost, restore
from dinoclassify.results.sort.journal import Entry, rewrite, standing, write_ahead
from dinoclassify.results.sort.made_folders import remove_folders
from dinoclassify.results.sort.transfer import Mode, identity, is_same, move, remove
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.signature import file_signature

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Undone:
    """A transfer that was taken back; or the reason why it was left as it is.

    ``lost``: what the image had before it was moved, and could not be given back, see `results.sort.attributes.lost`.
    """

    source: str
    target: str
    why: str | None = None
    lost: Sequence[str] = ()


class KeptError(Exception):
    """Taking it back would lose something."""


def finish(folder: str, entries: Sequence[Entry], *, is_own: bool) -> list[Entry]:
    """Bring what a run was killed in the middle of into order: each image is then in one place, and whole.

    But for those of which another copy has come back to the old place since: these moves are given, and both stay.

    Args:
        folder: that of the journal.
        entries: of the run.
        is_own: see `results.sort.journal.Journal`; with what others have written no image is removed.

    Raises:
        OutputError: it cannot be done.
    """
    back = []
    for entry in standing(entries):
        target = os.path.join(folder, entry.target)
        with as_output_errors(target):
            if entry.event in ("copy", "move"):
                remove(os.path.join(os.path.dirname(target), entry.made))
            if entry.event == "move" and _are_two(entry.source, target) and is_same(entry.source, target):
                if is_own and (identity(entry.source) == entry.identity or os.path.samefile(entry.source, target)):
                    os.unlink(entry.source)
                else:
                    back.append(entry)
    if is_own:
        _take_torn_back(folder, standing(entries))
    return back


def _take_torn_back(folder: str, entries: Sequence[Entry]) -> None:
    """Take companions back to their image where the run was killed before that had gone along, and say which.

    Raises:
        OutputError: it cannot be done.
    """
    waited_for = {entry.image for entry in entries if entry.image}
    there = {entry.made for entry in entries if entry.made in waited_for and _has_gone(entry, folder)}
    for entry in reversed(entries):
        if entry.image and entry.image not in there and entry.event in ("copy", "move", "symlink", "hardlink"):
            target = os.path.join(folder, entry.target)
            with as_output_errors(target), suppress(KeptError):
                if take_back(entry.event, entry, target):
                    log.warning("%s is taken back to its image, at which the run was stopped", entry.source)


def _has_gone(entry: Entry, folder: str) -> bool:
    """Whether the image of a line has got to its place; from there it may have been moved on since."""
    if entry.event == "move":
        return not os.path.lexists(entry.source)
    return os.path.lexists(os.path.join(folder, entry.target))


def undo_all(
    path: str, entries: Sequence[Entry], *, key: bytes | None = None, root: str | None = None, dry_run: bool = False
) -> Iterator[Undone]:
    """Take everything back, the last first: gives each image that is taken back, or left.

    The journal goes when nothing is left in it; what is left stays in it. Folders that a run has made go when they are
    empty, but for the one of the journal and those above it: see `results.sort.made_folders.own_folders`.

    Args:
        path: the journal.
        entries: what stands in it.
        key: for the lines that are added, if all others are the user's own.
        root: a folder; take nothing back to a place outside it, nor from one outside the folder of the journal.
        dry_run: only say what would be done.

    Raises:
        OutputError: the journal cannot be written.
    """
    folder, is_own = os.path.dirname(path), key is not None
    left: list[Entry] = []
    back: set[str] = set()  # of a dry run: what would be there again by then
    for entry in reversed(standing(entries)):
        target = os.path.join(folder, entry.target)
        match entry.event:
            case "mkdir":
                is_inside = root is None or _is_below(target, folder)
                if is_inside and not os.path.isabs(entry.target) and not dry_run:
                    remove_folders([target])
                left.append(entry)
            case "copy" | "move" | "symlink" | "hardlink" as mode:
                try:
                    if root is not None:
                        _check_places(mode, entry.source, root, target, folder)
                    is_back = dry_run and target in back
                    done = is_back or take_back(mode, entry, target, is_own=is_own, dry_run=dry_run)
                except (KeptError, OSError) as error:
                    left.append(entry)
                    yield Undone(entry.source, target, getattr(error, "strerror", None) or str(error))
                    continue
                if not dry_run:  # so that whoever goes on after a kill knows; what is last on the disk, the disk tells
                    with suppress(OutputError):  # of a full disk, which this may make room on
                        write_ahead(path, [Entry("void", entry.target, made=entry.made)], key=key, settled=False)
                if done:
                    back.add(entry.source)
                    is_moved = mode == "move" and not dry_run
                    missing = lost(entry.source, entry.was, entry.rights) if is_moved else ()
                    yield Undone(entry.source, target, lost=missing)
    if not dry_run:
        is_left = any(entry.event != "mkdir" for entry in left)
        rewrite(path, [*left[::-1], Entry("end")] if is_left else [], key=key)


def _check_places(mode: Mode, source: str, root: str, target: str, folder: str) -> None:
    """Check that a transfer stays within the two folders, whatever the links on the way.

    Raises:
        KeptError: it does not.
    """
    if not _is_below(source, root):
        raise KeptError(f"{source} is not below {root}")
    if not _is_below(target, folder):
        raise KeptError(f"it is not below {folder}")
    if mode == "move" and os.path.islink(target):
        raise KeptError("it is a symbolic link, which sort does not move")


def _is_below(path: str, folder: str) -> bool:
    """Whether a path has no ``..``, and what it names is in the folder, however links lead there."""
    above = os.path.join(os.path.realpath(os.path.dirname(path)), "")
    return os.path.normpath(path) == path and above.startswith(os.path.join(os.path.realpath(folder), ""))


def take_back(mode: Mode, entry: Entry, target: str, *, is_own: bool = True, dry_run: bool = False) -> bool:
    """Take a transfer back, wherever it was stopped; gives whether there was anything to do.

    Args:
        mode: how the file has got there.
        entry: its line in the journal.
        target: where it is.
        is_own: whether this user has written the journal, see `results.sort.attributes.restore`.
        dry_run: only say whether there is anything to do.

    Raises:
        KeptError: that would lose something.
        OSError: it cannot be done.
    """
    source = entry.source
    if not dry_run:
        for place in (target, source):  # the other is where a move back may have been stopped
            remove(os.path.join(os.path.dirname(place), entry.made))
    if not os.path.lexists(target):
        if mode == "move" and not os.path.lexists(source):
            raise KeptError(f"it is gone, and is not at {source} either")
        return False
    if mode == "move" and not os.path.lexists(source):
        if not dry_run:
            os.makedirs(os.path.dirname(source), exist_ok=True)
            move(target, source, entry.made, partial(restore, was=entry.was, rights=entry.rights, is_own=is_own))
        return True
    if mode == "move" and file_signature(source) == entry.was and not is_same(source, target):
        return False  # it has not come to be: the name was taken
    if mode == "move" and _are_one(source, target):
        return False  # it is where it was
    if not _is_ours(mode, source, target):
        raise KeptError(f"{source} is not there as it was")
    if not dry_run:
        os.unlink(target)
    return True


def _is_ours(mode: Mode, source: str, target: str) -> bool:
    """Whether the target can go: it is the link that was made, or the image is there as well."""
    if mode == "symlink":
        return os.path.islink(target) and os.readlink(target) == source
    return _are_two(source, target) and is_same(source, target)


def _are_two(one: str, other: str) -> bool:
    """Whether both are there, and neither is the other, or a link that leads to it: one can go and the other stays."""
    if not (os.path.exists(one) and os.path.exists(other)):
        return False
    return os.path.realpath(one) != os.path.realpath(other) and not _are_one(one, other)


def _are_one(one: str, other: str) -> bool:
    """Whether two paths are of one and the same name of a file, as by a mount, or where case does not matter."""
    if os.path.islink(one) or os.path.islink(other) or not os.path.samefile(one, other):
        return False
    return os.stat(other).st_nlink == 1 or os.path.realpath(one) == os.path.realpath(other)
