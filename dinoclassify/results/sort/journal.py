"""The journal of a folder into which images are sorted: each change is in it before it is made.

``DIR/undo-journal.jsonl`` has lines of JSON: the folders that a run makes, the files that it copies, moves or links,
in this order, and the end of the run. A ``void`` line cancels a transfer that was not made after all, or that was
taken back. Whether another transfer was made, only the disk shows: see `results.sort.undo`.

Each line ends with a code: the HMAC, with the user's own key, of the journal's folder, the code of the line before and
the line itself. So a journal from elsewhere is recognized, and so is one with a line that was changed or left out,
except at its end: a killed run leaves a journal that is cut short, too.
"""

import hmac
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dinoclassify.errors import UsageError
from dinoclassify.results.sort.signing import code_of
from dinoclassify.results.sort.transfer import FileIdentity, Mode, Rights, is_unfinished
from dinoclassify.storage.atomic import append, as_output_errors, fsync_path, replacing
from dinoclassify.types.source import Signature

JOURNAL_NAME = "undo-journal.jsonl"

_SIGNED = re.compile(rb'(.*), "code": "([0-9a-f]{64})"}\n')  # a line without its code, and the code
_CODE_END = 64 + len('"}\n')  # bytes from the start of the code to the end of the line

Event = Literal["mkdir", "void", "end"] | Mode


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal: a transfer, a new folder, the end of a run, or a transfer that is void.

    Args:
        event: what is done; ``void`` cancels the transfer with the same ``temp_name``.
        target: the new path, relative to the folder of the journal, which may be moved; the folder itself and its
            parents are absolute.
        source: the absolute path of the file that is transferred.
        signature: of that file.
        temp_name: the name beside the target of an unfinished copy; no two transfers share one.
        identity: of a file to be moved, which tells it from another that gets the same path later.
        rights: of a file to be moved.
        image: of a companion, the ``temp_name`` of the image that it goes along with, whose line comes later.
    """

    event: Event
    target: str = ""
    source: str = ""
    signature: Signature = (None, None)
    temp_name: str = ""
    identity: FileIdentity | None = None
    rights: Rights | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """The entries of a journal; ``is_own``: this user wrote all of them, and in this folder."""

    entries: list[Entry]
    is_own: bool


def find_journal(name: str) -> str:
    """The real path of a journal, by its own name or the name of its folder; raises UsageError if there is none."""
    path = os.path.realpath(os.path.join(name, JOURNAL_NAME) if os.path.isdir(name) else name)
    if os.path.basename(path) != JOURNAL_NAME or not os.path.isfile(path):
        raise UsageError(f"there is no journal {path}: sort --into DIR writes DIR/{JOURNAL_NAME}")
    return path


def read_journal(path: str, key: bytes | None = None) -> Journal:
    """The entries of a journal, without an unfinished last line; none if the file does not exist.

    Without the key of this user, see `results.sort.signing`, a journal is not the user's own.

    Raises:
        UsageError: the file cannot be read, or is not a journal.
    """
    try:
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
            raise ValueError("it is no regular file")
        with open(path, "rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
        return Journal([_parse(line.decode("ascii")) for line in lines], key is not None and _are_own(lines, path, key))
    except FileNotFoundError:
        return Journal([], is_own=True)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not a journal of dinoclassify sort ({error})") from error


def append_entries(path: str, entries: Sequence[Entry], *, key: bytes | None = None, sync: bool = True) -> None:
    """Add entries to a journal, which is made if it does not exist; ``sync`` forces them onto the disk.

    The journal stays the user's own only if a ``key`` signs all of its entries.

    Raises:
        OutputError: they cannot be written.
    """
    with as_output_errors(path):
        is_new = not os.path.exists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            end = _cut_unfinished_line(descriptor)
            before = os.pread(descriptor, 64, end - _CODE_END) if end > _CODE_END else b""
            append(descriptor, b"".join(_lines(entries, path, key, before)))
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            fsync_path(os.path.dirname(path))


def replace_entries(path: str, entries: Sequence[Entry], *, key: bytes | None = None) -> None:
    """Replace the entries of a journal, which is removed if there are none; raises OutputError if that fails."""
    with as_output_errors(path):
        if not entries:
            os.unlink(path)
            return
        with replacing(path) as file:
            file.writelines(_lines(entries, path, key, b""))


def unfinished_run(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of the last run, if it did not finish; else none."""
    ends = [number for number, entry in enumerate(entries) if entry.event == "end"]
    return list(entries[ends[-1] + 1 if ends else 0 :])


def valid_entries(entries: Sequence[Entry]) -> list[Entry]:
    """The entries without the void ones and those that they cancel."""
    void = {entry.temp_name for entry in entries if entry.event == "void"}
    return [entry for entry in entries if entry.event != "void" and not (entry.temp_name and entry.temp_name in void)]


def _lines(entries: Sequence[Entry], path: str, key: bytes | None, before: bytes) -> Iterator[bytes]:
    """The entries as lines; with a key, each with its code. ``before`` is the code of the line before the first."""
    folder = _folder(path)
    for entry in entries:
        text = _line(entry)
        if key is None:
            yield text + b"\n"
        else:
            before = code_of(key, folder, before, text[:-1])
            yield text[:-1] + b', "code": "' + before + b'"}\n'


def _are_own(lines: Sequence[bytes], path: str, key: bytes) -> bool:
    """Whether the key gives all lines the codes that they have."""
    before, folder = b"", _folder(path)
    for line in lines:
        signed = _SIGNED.fullmatch(line)
        if signed is None or not hmac.compare_digest(signed[2], code_of(key, folder, before, signed[1])):
            return False
        before = signed[2]
    return True


def _folder(path: str) -> bytes:
    return os.fsencode(os.path.realpath(os.path.dirname(path)))


def _line(entry: Entry) -> bytes:
    content: dict[str, object] = {
        "event": entry.event,
        "source": entry.source,
        "target": entry.target,
        "made": entry.temp_name,
        "identity": entry.identity,
        "rights": entry.rights,
        "image": entry.image,
        "was": None if entry.signature == (None, None) else entry.signature,
    }
    line = {name: value for name, value in content.items() if value}
    return json.dumps(line).encode("ascii")  # in ASCII, so that names that are not UTF-8 survive


def _parse(line: str) -> Entry:
    content = json.loads(line)
    event, (size, mtime_ns) = content["event"], content.get("was", (None, None))
    source, target, temp_name, image = (str(content.get(name, "")) for name in ("source", "target", "made", "image"))
    if event not in ("mkdir", "void", "end", *get_args(Mode)):
        raise ValueError(f"there is no event {event}")
    is_transfer, names = event in get_args(Mode), target.removeprefix("/").split("/")
    if "\0" in source + target:
        raise ValueError("a name that no file has")
    os.fsencode(source + target)  # raises ValueError for what no file name can be
    if (is_transfer or event == "mkdir") and not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(f"{event} to {target}")
    if is_transfer and (os.path.isabs(target) or not os.path.isabs(source)):
        raise ValueError(f"{event} from {source} to {target}, which is not in the folder")
    if (is_transfer or event == "void") and not is_unfinished(temp_name):
        raise ValueError(f"{event} with the name {temp_name}")
    inode_and_time, access = content.get("identity"), content.get("rights")
    identity = None if inode_and_time is None else (int(inode_and_time[0]), int(inode_and_time[1]))
    rights = None if access is None else (int(access[0]), int(access[1]), int(access[2]))
    return Entry(event, target, source, (size, mtime_ns), temp_name, identity, rights, image)


def _cut_unfinished_line(descriptor: int) -> int:
    """Cut off a last line that is unfinished, after a kill or on a full disk; returns the new size of the file."""
    end = size = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(descriptor, end)
    return end
