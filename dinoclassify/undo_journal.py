"""The journal of a folder into which pictures are sorted: what is about to be done stands there before it is done.

Lines of JSON, ``DIR/undo-journal.jsonl``: the folders that a run makes and the pictures that it copies, moves or links,
in this order, and its end. A line is void if the picture was left after all, or has been taken back. Whether any other
was carried out is to be seen on the disk: see `dinoclassify.undoing`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dinoclassify.errors import UsageError
from dinoclassify.files import Signature, append, replacing, reporting, settle
from dinoclassify.transfers import Mode, is_unfinished

NAME = "undo-journal.jsonl"

Event = Literal["mkdir", "void", "end"] | Mode


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what is done, to which picture, and where it is put; of a folder that is made, where.

    ``void``: the transfer with the same ``made`` has not come to be, or was taken back.

    ``source`` is absolute. ``target`` is relative to the folder of the journal, which may be moved; only that folder
    itself and those above it are absolute. ``was`` is the signature of the picture, ``made`` the name of a copy of it
    beside the target until that is whole, which no other line has.
    """

    event: Event
    target: str = ""
    source: str = ""
    was: Signature = (None, None)
    made: str = ""


def journal_of(name: str) -> str:
    """The path of the journal that is meant by its own name or by that of its folder.

    Raises:
        UsageError: there is none.
    """
    path = os.path.realpath(os.path.join(name, NAME) if os.path.isdir(name) else name)
    if os.path.basename(path) != NAME or not os.path.isfile(path):
        raise UsageError(f"there is no journal {path}: sort --into DIR writes DIR/{NAME}")
    return path


def read_journal(path: str) -> list[Entry]:
    """What stands in a journal; nothing if there is none. A last line that was not finished is none.

    Raises:
        UsageError: it cannot be read, or is no journal.
    """
    try:
        if os.path.lexists(path) and not os.path.isfile(path):
            raise ValueError("it is no file")
        with open(path, encoding="ascii") as file:
            return [_parse(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not a journal of dinoclassify sort ({error})") from error


def write_ahead(path: str, entries: Sequence[Entry], *, settled: bool = True) -> None:
    """Add lines to a journal, and have them on the disk, unless that is not needed.

    Raises:
        OutputError: they cannot be written.
    """
    with reporting(path):
        new = not os.path.exists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _cut_unfinished_line(descriptor)
            append(descriptor, b"".join(map(_line, entries)))
            if settled:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            settle(os.path.dirname(path))


def rewrite(path: str, entries: Sequence[Entry]) -> None:
    """Leave nothing in a journal but these lines; without any there is none.

    Raises:
        OutputError: it cannot be done.
    """
    with reporting(path):
        if not entries:
            os.unlink(path)
            return
        with replacing(path) as file:
            file.writelines(map(_line, entries))


def open_run(entries: Sequence[Entry]) -> list[Entry]:
    """The lines of the last run, if it did not come to its end."""
    ends = [number for number, entry in enumerate(entries) if entry.event == "end"]
    return list(entries[ends[-1] + 1 if ends else 0 :])


def standing(entries: Sequence[Entry]) -> list[Entry]:
    """The lines that are not void, and do not make others so."""
    void = {entry.made for entry in entries if entry.event == "void"}
    return [entry for entry in entries if entry.event != "void" and not (entry.made and entry.made in void)]


def _line(entry: Entry) -> bytes:
    content = {"event": entry.event, "source": entry.source, "target": entry.target, "made": entry.made}
    size, mtime_ns = entry.was
    line = {name: text for name, text in content.items() if text} | ({} if size is None else {"was": [size, mtime_ns]})
    return json.dumps(line).encode("ascii") + b"\n"  # escaped, so that names which are not UTF-8 come back


def _parse(line: str) -> Entry:
    content = json.loads(line)
    event, (size, mtime_ns) = content["event"], content.get("was", (None, None))
    source, target, made = (str(content.get(name, "")) for name in ("source", "target", "made"))
    if event not in ("mkdir", "void", "end", *get_args(Mode)):
        raise ValueError(f"there is no event {event}")
    is_transfer, names = event in get_args(Mode), target.removeprefix("/").split("/")
    if "\0" in source + target:
        raise ValueError("a name that no file has")
    os.fsencode(source + target)  # raises ValueError if they are no names either
    if (is_transfer or event == "mkdir") and not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(f"{event} to {target}")
    if is_transfer and (os.path.isabs(target) or not os.path.isabs(source)):
        raise ValueError(f"{event} from {source} to {target}, which is not in the folder")
    if (is_transfer or event == "void") and not is_unfinished(made):
        raise ValueError(f"{event} with the name {made}")
    return Entry(event, target, source, (size, mtime_ns), made)


def _cut_unfinished_line(descriptor: int) -> None:
    """Cut off what a run that was killed, or a full disk, has left behind the last line."""
    end = size = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(descriptor, end)
