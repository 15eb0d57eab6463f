"""The last row of each image that a watch has seen, so that it is not labelled again.

The rows are in the output. Other programs may rotate that at any time, also while no watch runs, so a file beside it
keeps a summary of them.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast, get_args

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.atomic import append, as_output_errors, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.signature import FolderIdentity
from dinoclassify.types.prediction import ErrorCode, Row, Status
from dinoclassify.types.source import Signature

_END = b"\n"  # ends the rows that were rotated away


@dataclass(frozen=True, slots=True)
class Seen:
    """A summary of an image's last row.

    ``signature`` is that of the file when it was read; ``earlier``: a previous run wrote it.
    """

    signature: Signature
    status: Status
    error_code: ErrorCode | None = None
    earlier: bool = False


def seen_in(row: Row, signature: Signature = (None, None), *, earlier: bool = False) -> Seen:
    """The summary of a row; ``signature`` is for an image that could not be read, whose row has none."""
    if row.size is not None and row.mtime_ns is not None:
        signature = row.size, row.mtime_ns
    return Seen(signature, row.status, row.failure.code if row.failure is not None else None, earlier)


class SeenFile:
    """The file beside an output: a line of JSON for each row, in the order in which rows are written.

    An empty line separates the rows that were rotated away from those in the output. ``made_with`` is the fingerprint
    of the run: a file with another one is not used.
    """

    def __init__(self, made_with: Mapping[str, object]) -> None:
        self._made_with = made_with
        self._path = ""
        self._descriptor: int | None = None
        self._lock = threading.Lock()  # one thread adds rows while another rewrites the file
        self.rotated: dict[str, Seen] = {}  # images whose rows were rotated away, by absolute path
        self.roots: dict[str, FolderIdentity] = {}  # the identity each root had when it last contained images

    def read(self, output: str) -> dict[str, Seen]:
        """Read the file, or raise a UsageError; returns the last rows in the output, by absolute path of the image."""
        self._path = path = OutputPaths(output).seen
        rows: dict[str, Seen] = {}
        try:
            with open(path, "rb") as file:
                if json.loads(file.readline()) == json.loads(_line(self._made_with)):
                    for line in file:
                        if line == _END:
                            self.rotated, rows = rows, {}
                        elif line.endswith(b"\n"):  # a kill can tear the last line
                            self._take(json.loads(line), rows)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, RecursionError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            cure = "remove it; images whose rows were rotated away are then labelled again"
            raise UsageError(f"cannot read {path} ({reason}): {cure}") from error
        return rows

    def replace(self, output: str, rows: Mapping[str, Seen]) -> None:
        """Rewrite the file with the last rows of images in the output, whose permissions it gets.

        After an OutputError it is unchanged, and later rows are added to it.
        """
        self._path = path = OutputPaths(output).seen
        with self._lock:
            try:
                with replacing(path, rights_of=output) as file, as_output_errors(path):
                    file.write(_line(self._made_with))
                    file.writelines(_line([root, *identity]) for root, identity in self.roots.items())
                    file.writelines(_line(_values(*item)) for item in self.rotated.items())
                    file.write(_END)
                    file.writelines(_line(_values(*item)) for item in rows.items())
            finally:
                self._close()
                with suppress(OSError):
                    self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def add(self, image: str, last: Seen) -> None:
        """Add a row that is already in the output; raises OutputError if the file cannot be written."""
        self._add(_values(image, last))

    def add_root(self, root: str, identity: FolderIdentity) -> None:
        """Add the identity of a root; nothing is added if the file cannot be written."""
        with suppress(OutputError):
            self._add([root, *identity])
            self.roots[root] = identity

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _take(self, values: list[str | int | None], rows: dict[str, Seen]) -> None:
        match values:
            case [str(root), int(device), int(inode)]:
                self.roots[root] = device, inode
            case [str(image), int(size), int(mtime_ns), status, code]:
                rows[image] = _seen((size, mtime_ns), status, code)
            case [str(image), None, None, status, code]:
                rows[image] = _seen((None, None), status, code)
            case _:
                raise ValueError("it holds something else")

    def _add(self, values: Sequence[object]) -> None:
        with self._lock, as_output_errors(self._path):
            if self._descriptor is not None:
                append(self._descriptor, _line(values))

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _values(image: str, last: Seen) -> list[object]:
    return [image, *last.signature, last.status, last.error_code]


def _seen(signature: Signature, status: object, code: object) -> Seen:
    if status not in get_args(Status):
        raise ValueError(f"{status} is no status")
    if code not in (None, *get_args(ErrorCode)):
        raise ValueError(f"{code} is no error code")
    return Seen(signature, cast(Status, status), cast(ErrorCode | None, code), earlier=True)


def _line(content: object) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"
