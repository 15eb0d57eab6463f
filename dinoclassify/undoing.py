"""What a journal says was done -> taken back, or brought into order after a run that was killed.

Whether a transfer was carried out, half or whole, is to be seen on the disk, and so all of this can be done again after
it was itself killed. Nothing is taken back that would lose a picture: a copy goes only if the picture that it was made
of is there and the same.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dinoclassify.files import Signature, reporting, signature
from dinoclassify.transfers import Mode, is_same, move, remove, unfinished
from dinoclassify.undo_journal import Entry, rewrite


@dataclass(frozen=True, slots=True)
class Undone:
    """A transfer that was taken back; or the reason why it was left as it is."""

    source: str
    target: str
    why: str | None = None


class _KeptError(Exception):
    """Taking it back would lose something."""


def finish(folder: str, entries: Sequence[Entry]) -> None:
    """Bring what a run was killed in the middle of into order: each picture is then in one place, and whole.

    Args:
        folder: that of the journal.
        entries: of the run.

    Raises:
        OutputError: it cannot be done.
    """
    for entry in entries:
        target = os.path.join(folder, entry.target)
        with reporting(target):
            if entry.event in ("copy", "move"):
                remove(unfinished(target))
            both = entry.event == "move" and os.path.lexists(entry.source) and os.path.lexists(target)
            if both and is_same(entry.source, target):
                os.unlink(entry.source)


def undo_all(path: str, entries: Sequence[Entry], *, dry_run: bool = False) -> Iterator[Undone]:
    """Take everything back, the last first: gives each picture that is taken back, or left.

    The journal goes when nothing is left in it; what is left stays in it. Folders that a run has made go when they are
    empty, but for the one of the journal and those above it: see `own_folders`.

    Args:
        path: the journal.
        entries: what stands in it.
        dry_run: only say what would be done.

    Raises:
        OutputError: the journal cannot be written.
    """
    folder = os.path.dirname(path)
    left: list[Entry] = []
    void: set[str] = set()
    for entry in reversed(entries):
        target = os.path.join(folder, entry.target)
        match entry.event:
            case "mkdir":
                if not os.path.isabs(entry.target) and not dry_run:
                    remove_folders([target])
                left.append(entry)
            case "void":
                void.add(entry.target)
            case "copy" | "move" | "symlink" | "hardlink" as mode if entry.target in void:
                void.remove(entry.target)
            case "copy" | "move" | "symlink" | "hardlink" as mode:
                try:
                    if _undo(mode, entry.source, target, entry.was, dry_run=dry_run):
                        yield Undone(entry.source, target)
                except (_KeptError, OSError) as error:
                    left.append(entry)
                    yield Undone(entry.source, target, getattr(error, "strerror", None) or str(error))
    if not dry_run:
        is_left = any(entry.event != "mkdir" for entry in left)
        rewrite(path, [*left[::-1], Entry("end")] if is_left else [])


def own_folders(entries: Sequence[Entry]) -> list[str]:
    """The folder of the journal and those above it, as far as a run has made them, the first above the next."""
    return [entry.target for entry in entries if entry.event == "mkdir" and os.path.isabs(entry.target)]


def remove_folders(paths: Sequence[str]) -> None:
    """Remove folders, the last first, as far as they are empty."""
    for path in reversed(paths):
        with suppress(OSError):  # there is something in it, or it is gone
            os.rmdir(path)


def _undo(mode: Mode, source: str, target: str, was: Signature, *, dry_run: bool) -> bool:
    """Take a transfer back, wherever it was stopped; gives whether there was anything to do.

    Raises:
        _KeptError: that would lose something.
        OSError: it cannot be done.
    """
    if not dry_run:
        remove(unfinished(target))
    if not os.path.lexists(target):
        if mode == "move" and not os.path.lexists(source):
            raise _KeptError(f"it is gone, and is not at {source} either")
        return False
    if mode == "move" and not os.path.lexists(source):
        if not dry_run:
            os.makedirs(os.path.dirname(source), exist_ok=True)
            move(target, source)
        return True
    if mode == "move" and signature(source) == was and not is_same(source, target):
        return False  # it has not come to be: the name was taken
    if not _is_ours(mode, source, target):
        raise _KeptError(f"{source} is not there as it was")
    if not dry_run:
        os.unlink(target)
    return True


def _is_ours(mode: Mode, source: str, target: str) -> bool:
    """Whether the target is what the transfer has made, and the picture is there as well."""
    if mode == "symlink":
        return os.path.islink(target) and os.readlink(target) == source
    if mode == "hardlink":
        return os.path.exists(source) and os.path.samefile(source, target)
    return is_same(source, target)
