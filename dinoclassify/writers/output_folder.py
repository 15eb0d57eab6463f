"""A folder of parts, on this machine or in a store, while it is unfinished, and at its end.

    FOLDER.partial/meta.json     what the journal was made with
    FOLDER.partial/rows/...      the journal, see `writers.chunks`
    FOLDER/part-00000.csv ...    the finished rows, in the order of the inputs
    FOLDER/_manifest.json        the names of the parts, and what they were made with

A new folder on this machine takes its name at once. In a store the manifest does, and parts have names that no other
run gives: whoever follows it sees one run or the other. A run that is killed at any moment can be resumed.
"""

import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import name_some
from dinoclassify.storage.atomic import as_output_errors, fsync_path, is_temporary
from dinoclassify.storage.remote.filesystem import (
    is_local,
    local_copy,
    names_in,
    open_place,
    read_file,
    remove,
    write_file,
    writing_file,
)
from dinoclassify.storage.rename import exchange
from dinoclassify.writers.chunks import Piece, chunk_size, next_number, piece_files, read_lines, write_rows
from dinoclassify.writers.fingerprint import PARTIAL
from dinoclassify.writers.formats import EXCEL, FORMATS
from dinoclassify.writers.formats.base import R, RowFormat

MANIFEST = "_manifest.json"  # readers of folders of Parquet pass over names that begin with _

PART = 100_000  # rows

_SUFFIXES = {known.name: known.suffixes[0] for known in (*FORMATS, EXCEL) if not known.seeks}
_OURS = re.compile(r"_manifest\.json|part-\d{5,}(-[0-9a-f]+)?(\.\w+)+")
_OF_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # come from looking into a folder
_WORK = re.compile(r"meta\.json|plan|rows|new|old")


class OutputFolder(Generic[R]):
    """A folder, and its journal.

    Args:
        folder: a path or a URL.
        row_format: the format of the parts.
        batch_size: the images of a batch; a piece of the journal has whole batches.

    Raises:
        UsageError: the format, or the name, is not for a folder.
        OutputError: something else is in the folder.
    """

    def __init__(self, folder: str, row_format: RowFormat[R], *, batch_size: int) -> None:
        if row_format.name not in _SUFFIXES:
            raise UsageError(f"{folder}: a folder of parts is in {', '.join(_SUFFIXES)}, not in {row_format.name}")
        self.name = folder
        self.work = self.journal_name = work_of(folder)
        self._fs, self._path = open_place(folder)
        _, self._work = open_place(self.work)
        if not is_local(self._fs) and any(character in self._path for character in "*?["):
            raise UsageError(f"{folder}: the name of a folder in a store is without * ? [")
        self._format, self._lines = row_format, row_format.lines
        self._batch_size = batch_size
        self._suffix = _SUFFIXES[row_format.name]
        self._rows: list[R] = []  # that are not in a piece yet
        self._own: list[str] = []  # the pieces of this run
        self._first = 0  # the number of the first of these
        self._run = uuid.uuid4().hex  # of the first of several runs, if they are interrupted
        self._session = uuid.uuid4().hex[:16]
        self._manifest: dict[str, Any] | None = None
        self._journal: dict[str, Any] | None = None

    def recover(self) -> None:
        """Do the last step of a run that was killed before it, and look at what is there."""
        with as_output_errors(self.name):
            if self._fs.isfile(self._path):
                raise OutputError(f"{self.name} is a file, not a folder: choose another name")
            old = f"{self._work}/old"
            if is_local(self._fs) and os.path.exists(old) and not os.path.exists(self._path):
                os.rename(old, self._path)
            self._manifest = read_manifest(self.name)
            journal = self._read_journal_meta()
            if self._manifest is not None and journal is not None and self._manifest["run"] == journal["run"]:
                self._clean(self._manifest)
                journal = None
            self._check_names(begun=self._manifest is not None or journal is not None)
            self._journal = journal

    def finished_meta(self) -> dict[str, Any] | None:
        """What the parts were made with; None if there are none."""
        return self._manifest

    def finished_rows(self) -> Iterator[R]:
        """The rows of the parts."""
        for part in self._manifest["parts"] if self._manifest is not None else ():
            with local_copy(self._fs, f"{self._path}/{part['name']}") as file:
                yield from self._format.read(file)

    def journal_meta(self) -> dict[str, Any] | None:
        """What the journal was made with; None if there is none."""
        return self._journal

    def journal_rows(self) -> Iterator[R]:
        """The rows of the journal."""
        return map(self._lines.parse, read_lines(self.work, piece_files(self.work), self._lines))

    def begin(self, meta: Mapping[str, object]) -> None:
        """Start an empty journal."""
        with as_output_errors(self.work):
            self._remove_journal()
            write_file(self._fs, f"{self._work}/meta.json", _as_json({"run": self._run, **meta}))

    def resume(self) -> None:
        """Go on with the journal."""
        assert self._journal is not None  # noqa: S101 - there is one
        self._run = self._journal["run"]
        self._first = next_number(piece_files(self.work))

    def append(self, row: R) -> None:
        """Add a row to the journal. A kill loses at most the rows of one piece."""
        self._rows.append(row)
        if len(self._rows) == chunk_size(self._batch_size):
            self._write_piece(len(self._rows))

    def appended(self) -> Iterator[bytes]:
        """The rows that this run has added, as lines."""
        self._write_piece(len(self._rows))
        return read_lines(self.work, self._own, self._lines)

    def publish(self, lines: Iterable[bytes] | None, meta: Mapping[str, object]) -> None:
        """Put the folder in place.

        Args:
            lines: all its rows, as lines; None for those of the journal as they are.
            meta: what they were made with.

        Raises:
            OutputError: it cannot be written, or somebody has put something else there.
        """
        with as_output_errors(self.name):
            self._check_names()
            local = is_local(self._fs)
            new, tag = (f"{self._work}/new", "") if local else (self._path, f"-{self._run[:8]}")
            if local:
                shutil.rmtree(new, ignore_errors=True)
            if lines is None:
                self._write_piece(len(self._rows))
                lines = read_lines(self.work, piece_files(self.work), self._lines)
            parts = [
                {"name": name, "rows": count}
                for name, count in self._write_parts(iter(lines), f"{new}/part-", f"{tag}{self._suffix}", meta)
            ]
            manifest = {**meta, "run": self._run, "parts": parts}
            write_file(self._fs, f"{new}/{MANIFEST}", _as_json(manifest))
            if local:
                self._take_name(new)
            self._clean(manifest)

    def publish_unchanged(self, meta: Mapping[str, object]) -> None:
        """Give the folder new metadata."""
        assert self._manifest is not None  # noqa: S101 - there are rows that are unchanged
        with as_output_errors(self.name):
            self._check_names()
            manifest = {**meta, "run": self._run, "parts": self._manifest["parts"]}
            write_file(self._fs, f"{self._path}/{MANIFEST}", _as_json(manifest))
            self._clean(manifest)

    def close(self) -> None:
        """Add the rows of whole batches to the journal. It stays unless the folder is finished."""
        self._write_piece(len(self._rows) - len(self._rows) % self._batch_size)

    def _write_piece(self, rows: int) -> None:
        if rows:
            piece = Piece(f"{self._first + len(self._own):09}-{self._session}", 0, last=True)
            self._own.append(write_rows(self.work, piece, self._lines, self._rows[:rows]).file)
            del self._rows[:rows]

    def _remove_journal(self) -> None:
        names = names_in(self._fs, self._work)
        if others := [name for name in names if not (_WORK.fullmatch(name) or is_temporary(name))]:
            raise OutputError(f"{self.work} has {name_some(others)}, which no run wrote: choose another folder")
        remove(self._fs, self._work)

    def _read_journal_meta(self) -> dict[str, Any] | None:
        content = read_file(self._fs, f"{self._work}/meta.json")
        return _parsed(content, f"{self.work}/meta.json", {"run", "made_with", "adds_to_output"}) if content else None

    def _check_names(self, *, begun: bool = True) -> None:
        """Find out whether all that is in the folder is ours."""
        names = names_in(self._fs, self._path)
        if others := [name for name in names if not (name in _OF_DESKTOPS or (begun and _is_ours(name)))]:
            raise OutputError(f"{self.name} has {name_some(others)}, which no run wrote: choose another folder")

    def _write_parts(
        self, lines: Iterator[bytes], start: str, end: str, meta: Mapping[str, object]
    ) -> Iterator[tuple[str, int]]:
        """Write the parts; gives the name of each and its number of rows."""
        for number in itertools.count():
            some = list(itertools.islice(lines, PART))
            if not some:
                break
            path = f"{start}{number:05}{end}"
            with writing_file(self._fs, path) as file:
                self._format.write_lines(file, some, meta)
            yield os.path.basename(path), len(some)

    def _take_name(self, new: str) -> None:
        """Have the folder ``new`` under our name, and what was there, if anything, in its place."""
        fsync_path(new)
        if os.path.exists(self._path):
            if not exchange(new, self._path):
                os.rename(self._path, f"{self._work}/old")
                os.rename(new, self._path)
        else:
            os.rename(new, self._path)
        fsync_path(os.path.dirname(self._path))

    def _clean(self, manifest: Mapping[str, Any]) -> None:
        """Remove what is left of this run, and of those before it, when it is done."""
        named = {MANIFEST, *(part["name"] for part in manifest["parts"])}
        for name in names_in(self._fs, self._path):
            if name not in named and _is_ours(name):
                self._fs.rm_file(f"{self._path}/{name}")
        remove(self._fs, self._work)


def _is_ours(name: str) -> bool:
    """Whether a run may have written a file of this name."""
    return _OURS.fullmatch(name) is not None or is_temporary(name)


def work_of(folder: str) -> str:
    """The folder of the journal."""
    return folder.rstrip("/") + PARTIAL


def read_manifest(folder: str) -> dict[str, Any] | None:
    """What is said of a folder of parts; None if it is none.

    Raises:
        UsageError: it cannot be read.
    """
    fs, path = open_place(folder)
    content = read_file(fs, f"{path}/{MANIFEST}")
    return _parsed(content, f"{folder}/{MANIFEST}", {"run", "made_with", "parts"}) if content is not None else None


def part_files(folder: str) -> list[str]:
    """The parts of a folder, in order.

    Raises:
        UsageError: it is no folder of parts.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} is no folder that predict wrote: it has no {MANIFEST}")
    return [f"{folder.rstrip('/')}/{part['name']}" for part in manifest["parts"]]


def _as_json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, indent=2, default=str).encode("ascii")


def _parsed(content: bytes, name: str, wanted: set[str]) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(content)
        if not (isinstance(parsed, dict) and wanted <= parsed.keys()):
            raise ValueError("it lacks what a run writes")
    except ValueError as error:
        raise UsageError(f"cannot read {name} ({error}): restore it, or choose another folder") from error
    return parsed
