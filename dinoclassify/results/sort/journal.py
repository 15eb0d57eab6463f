"""The journal of a folder into which images are sorted: what is about to be done stands there before it is done.

Lines of JSON, ``DIR/undo-journal.jsonl``: the folders that a run makes and the images that it copies, moves or links,
in this order, and its end. A line is void if the image was left after all, or has been taken back. Whether any other
was carried out is to be seen on the disk: see `results.sort.undo`.

Each line ends with a code, which the user's own key gives for the folder of the journal, the code of the line before
and the line itself. So a journal from elsewhere is told apart, and so is one with a line that is changed or left out,
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
from dinoclassify.results.sort.attributes import Rights
from dinoclassify.results.sort.signing import code_of
from dinoclassify.results.sort.transfer import Identity, Mode, is_unfinished
from dinoclassify.storage.atomic import append, as_output_errors, fsync_path, replacing
from dinoclassify.types.source import Signature

NAME = "undo-journal.jsonl"

_SIGNED = re.compile(rb'(.*), "code": "([0-9a-f]{64})"}\n')  # a line, and its code
_CODE_END = 64 + len('"}\n')  # bytes from the start of the code to the end of the line

Event = Literal["mkdir", "void", "end"] | Mode


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what is done, to which image, and where it is put; of a folder that is made, where.

    ``void``: the transfer with the same ``made`` has not come to be, or was taken back.

    ``source`` is absolute. ``target`` is relative to the folder of the journal, which may be moved; only that folder
    itself and those above it are absolute. ``was`` is the signature of the image, ``made`` the name of a copy of it
    beside the target until that is whole, which no other line has. ``identity`` tells an image that is moved from
    another that comes to the same place, ``rights`` are those that it had. ``image`` is of a companion: the ``made`` of
    the image that it goes along with, whose line comes later.
    """

    event: Event
    target: str = ""
    source: str = ""
    was: Signature = (None, None)
    made: str = ""
    identity: Identity | None = None
    rights: Rights | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """What stands in a journal; ``is_own`` if this user has written all of it here."""

    entries: list[Entry]
    is_own: bool


def journal_of(name: str) -> str:
    """The path of the journal that is meant by its own name or by that of its folder.

    Raises:
        UsageError: there is none.
    """
    path = os.path.realpath(os.path.join(name, NAME) if os.path.isdir(name) else name)
    if os.path.basename(path) != NAME or not os.path.isfile(path):
        raise UsageError(f"there is no journal {path}: sort --into DIR writes DIR/{NAME}")
    return path


def read_journal(path: str, key: bytes | None = None) -> Journal:
    """What stands in a journal; nothing if there is none. A last line that was not finished is none.

    Args:
        path: of the journal.
        key: that of this user, see `results.sort.signing`.

    Raises:
        UsageError: it cannot be read, or is no journal.
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


def write_ahead(path: str, entries: Sequence[Entry], *, key: bytes | None = None, settled: bool = True) -> None:
    """Add lines to a journal, and have them on the disk, unless that is not needed.

    Args:
        path: of the journal.
        entries: the new lines.
        key: see `read_journal`; without it, or behind lines of others, the journal is not the user's own.
        settled: have them on the disk.

    Raises:
        OutputError: they cannot be written.
    """
    with as_output_errors(path):
        new = not os.path.exists(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            end = _cut_unfinished_line(descriptor)
            before = os.pread(descriptor, 64, end - _CODE_END) if end > _CODE_END else b""
            append(descriptor, b"".join(_lines(entries, path, key, before)))
            if settled:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            fsync_path(os.path.dirname(path))


def rewrite(path: str, entries: Sequence[Entry], *, key: bytes | None = None) -> None:
    """Leave nothing in a journal but these lines; without any there is none.

    Raises:
        OutputError: it cannot be done.
    """
    with as_output_errors(path):
        if not entries:
            os.unlink(path)
            return
        with replacing(path) as file:
            file.writelines(_lines(entries, path, key, b""))


def open_run(entries: Sequence[Entry]) -> list[Entry]:
    """The lines of the last run, if it did not come to its end."""
    ends = [number for number, entry in enumerate(entries) if entry.event == "end"]
    return list(entries[ends[-1] + 1 if ends else 0 :])


def standing(entries: Sequence[Entry]) -> list[Entry]:
    """The lines that are not void, and do not make others so."""
    void = {entry.made for entry in entries if entry.event == "void"}
    return [entry for entry in entries if entry.event != "void" and not (entry.made and entry.made in void)]


def _lines(entries: Sequence[Entry], path: str, key: bytes | None, before: bytes) -> Iterator[bytes]:
    """The lines of a journal; with a key each has its code, the first that which follows the code ``before``."""
    folder = _folder(path)
    for entry in entries:
        text = _line(entry)
        if key is None:
            yield text + b"\n"
        else:
            before = code_of(key, folder, before, text[:-1])
            yield text[:-1] + b', "code": "' + before + b'"}\n'


def _are_own(lines: Sequence[bytes], path: str, key: bytes) -> bool:
    """Whether all lines have the codes that the key gives them."""
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
        "made": entry.made,
        "identity": entry.identity,
        "rights": entry.rights,
        "image": entry.image,
        "was": None if entry.was == (None, None) else entry.was,
    }
    line = {name: value for name, value in content.items() if value}
    return json.dumps(line).encode("ascii")  # escaped, so that names which are not UTF-8 come back


def _parse(line: str) -> Entry:
    content = json.loads(line)
    event, (size, mtime_ns) = content["event"], content.get("was", (None, None))
    source, target, made, image = (str(content.get(name, "")) for name in ("source", "target", "made", "image"))
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
    inode_and_time, access = content.get("identity"), content.get("rights")
    identity = None if inode_and_time is None else (int(inode_and_time[0]), int(inode_and_time[1]))
    rights = None if access is None else (int(access[0]), int(access[1]), int(access[2]))
    return Entry(event, target, source, (size, mtime_ns), made, identity, rights, image)


def _cut_unfinished_line(descriptor: int) -> int:
    """Cut off what a run that was killed, or a full disk, has left behind the last line; gives where that ends."""
    end = size = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(descriptor, end)
    return end
