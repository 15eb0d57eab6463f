"""The journal of a folder into which pictures are sorted: what is about to be done stands there before it is done.

Lines of JSON, ``DIR/undo-journal.jsonl``: the folders that a run makes and the pictures that it copies, moves or links,
in this order, and its end. Whether a line was carried out is to be seen on the disk: that
is so arranged that a run which was killed at any moment can be finished or taken back.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

from dinoclassify.earlier import Signature
from dinoclassify.errors import UsageError
from dinoclassify.files import append, replacing, reporting
from dinoclassify.transfers import Mode, finish_move, undo, unfinished

NAME = "undo-journal.jsonl"

Event = Literal["mkdir", "end"] | Mode


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what is done, to which picture, and where it is put; of a folder that is made, where.

    ``source`` is absolute. ``target`` is relative to the folder of the journal, which may be moved; only that folder
    itself and those above it are absolute. ``was`` is the signature of the picture.
    """

    event: Event
    target: str = ""
    source: str = ""
    was: Signature = (None, None)


def journal_of(name: str) -> str:
    """The journal that is meant by its own name or by that of its folder."""
    return os.path.join(name, NAME) if os.path.isdir(name) else name


def read_journal(path: str) -> list[Entry]:
    """What stands in a journal; nothing if there is none. A last line that was not finished is none.

    Raises:
        UsageError: it cannot be read, or is no journal.
    """
    try:
        with open(path, encoding="ascii") as file:
            return [_parse(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a journal of dinoclassify sort ({error})") from error


def write_ahead(path: str, entries: Sequence[Entry]) -> None:
    """Add lines to a journal, and have them on the disk.

    Raises:
        OutputError: they cannot be written.
    """
    with reporting(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _cut_unfinished_line(descriptor)
            append(descriptor, b"".join(map(_line, entries)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_run(entries: Sequence[Entry]) -> list[Entry]:
    """The lines of the last run, if it did not come to its end."""
    ends = [number for number, entry in enumerate(entries) if entry.event == "end"]
    return list(entries[ends[-1] + 1 if ends else 0 :])


def finish(folder: str, entries: Sequence[Entry]) -> None:
    """Bring what a run was killed in the middle of into order: each picture is then in one place, and whole.

    Raises:
        OutputError: it cannot be done.
    """
    for entry in entries:
        target = os.path.join(folder, entry.target)
        with reporting(target):
            if entry.event == "move":
                finish_move(entry.source, target)
            elif entry.event == "copy":
                with suppress(FileNotFoundError):
                    os.unlink(unfinished(target))


def undo_all(path: str, entries: Sequence[Entry]) -> Iterator[tuple[Entry, str | None]]:
    """Take everything back, the last first: gives each picture, and the reason if it had to be left.

    The journal goes when nothing is left in it; what is left stays in it. Folders that a run has made go when they are
    empty, but for the one of the journal and those above it: see `own_folders`.

    Raises:
        OutputError: the journal cannot be written.
    """
    folder = os.path.dirname(path)
    left: list[Entry] = []
    for entry in reversed(entries):
        match entry.event:
            case "mkdir" if not os.path.isabs(entry.target):
                with suppress(OSError):  # there is something in it, or it is gone
                    os.rmdir(os.path.join(folder, entry.target))
            case "copy" | "move" | "symlink" | "hardlink" as mode:
                try:
                    why = undo(mode, entry.source, os.path.join(folder, entry.target), entry.was)
                except OSError as error:
                    why = error.strerror or str(error)
                if why is not None:
                    left.append(entry)
                yield entry, why
    with reporting(path):
        if left:
            kept = [entry for entry in entries if entry in left or entry.event in ("mkdir", "end")]
            with replacing(path, ".new") as file:
                file.writelines(map(_line, kept))
        else:
            os.unlink(path)


def own_folders(entries: Sequence[Entry]) -> list[str]:
    """The folder of the journal and those above it, as far as a run has made them, the first above the next."""
    return [entry.target for entry in entries if entry.event == "mkdir" and os.path.isabs(entry.target)]


def remove_folders(paths: Sequence[str]) -> None:
    """Remove folders, the last first, as far as they are empty."""
    for path in reversed(paths):
        with suppress(OSError):
            os.rmdir(path)


def _line(entry: Entry) -> bytes:
    content = {"event": entry.event, "source": entry.source, "target": entry.target}
    size, mtime_ns = entry.was
    line = {name: text for name, text in content.items() if text} | ({} if size is None else {"was": [size, mtime_ns]})
    return json.dumps(line).encode("ascii") + b"\n"  # escaped, so that names which are not UTF-8 come back


def _parse(line: str) -> Entry:
    content = json.loads(line)
    event, was = content["event"], content.get("was", (None, None))
    source, target = str(content.get("source", "")), str(content.get("target", ""))
    if event not in ("mkdir", "end", *get_args(Mode)):
        raise ValueError(f"there is no event {event}")
    if event in get_args(Mode) and not (os.path.isabs(source) and target):
        raise ValueError(f"{event} without a source or a target")
    size, mtime_ns = was
    return Entry(event, target, source, (size, mtime_ns))


def _cut_unfinished_line(descriptor: int) -> None:
    """Cut off what a run that was killed, or a full disk, has left behind the last line."""
    end = size = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(descriptor, end)
