"""A folder of finished rows in parts, on this machine or in a store.

    FOLDER/part-00000.csv ...    the rows, in the order of the inputs
    FOLDER/_manifest.json        the names of the parts, and what the rows depend on
    FOLDER.partial/meta.json     the journal, with the rows of an unfinished run: what they depend on
    FOLDER.partial/rows/...      its pieces, see `writers.chunks`

On this machine a new folder takes its name at once. In a store the new manifest takes effect at once, and parts have
names that no other run uses: readers that follow the manifest see one run or the other. A run that is killed at any
moment can be resumed.
"""

import itertools
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic

from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.location import is_glob
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import name_some
from dinoclassify.storage.atomic import as_output_errors, is_temporary
from dinoclassify.storage.output_paths import OutputPaths
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
from dinoclassify.storage.rename import put_folder_in_place
from dinoclassify.writers.chunks import Piece, chunk_size, next_number, piece_files, read_lines, write_rows
from dinoclassify.writers.formats import EXCEL, FORMATS
from dinoclassify.writers.formats.base import Lines, R, RowFormat
from dinoclassify.writers.manifest import MANIFEST, dump, parse, read_manifest

PART = 100_000  # rows

_SUFFIXES = {known.name: known.suffixes[0] for known in (*FORMATS, EXCEL) if not known.seeks}
_OUTPUT_FILES = re.compile(r"_manifest\.json|part-\d{5,}(-[0-9a-f]+)?(\.\w+)+")
_JOURNAL_FILES = re.compile(r"meta\.json|plan|rows|new|old")
_DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # file browsers create them


class FolderJournal(Generic[R]):
    """The journal of a folder, a path or a URL: its rows in pieces of whole batches, which are written whole."""

    def __init__(self, folder: str, lines: Lines[R], *, batch_size: int) -> None:
        self.name = OutputPaths(folder).journal
        self._fs, self.path = open_place(self.name)
        self._lines, self._batch_size = lines, batch_size
        self.run = uuid.uuid4().hex  # identifies an interrupted run and those that resume it
        self._session = uuid.uuid4().hex[:16]
        self._meta: dict[str, Any] | None = None
        self._buffer: list[R] = []  # rows that are not in a piece yet
        self._pieces: list[str] = []  # files of the pieces of this run
        self._first = 0  # the number of the first of these

    def load(self) -> None:
        """Read the metadata of the journal, if there is one. Raises UsageError if they cannot be read."""
        content = read_file(self._fs, f"{self.path}/meta.json")
        required = {"run", "made_with", "adds_to_output"}
        self._meta = parse(content, f"{self.name}/meta.json", required) if content else None

    def meta(self) -> dict[str, Any] | None:
        """Return the metadata of the journal; None if there is no journal."""
        return self._meta

    def rows(self) -> Iterator[R]:
        """Yield all rows."""
        return map(self._lines.parse, self._read(piece_files(self.name)))

    def begin(self, meta: Mapping[str, object]) -> None:
        """Start an empty journal.

        Raises:
            OutputError: it cannot be written, or its folder has files that no run wrote.
        """
        with as_output_errors(self.name):
            names = names_in(self._fs, self.path)
            if others := [name for name in names if not (_JOURNAL_FILES.fullmatch(name) or is_temporary(name))]:
                raise OutputError(f"{self.name} {_why_not_ours(others)}: choose another folder")
            self.remove()
            write_file(self._fs, f"{self.path}/meta.json", dump({"run": self.run, **meta}))

    def resume(self) -> None:
        """Continue the journal of an interrupted run."""
        assert self._meta is not None  # noqa: S101 - there is a journal
        self.run = self._meta["run"]
        self._first = next_number(piece_files(self.name))

    def append(self, row: R) -> None:
        """Add a row. A kill loses at most the rows of one piece."""
        self._buffer.append(row)
        if len(self._buffer) == chunk_size(self._batch_size):
            self._write_piece(len(self._buffer))

    def appended(self) -> Iterator[bytes]:
        """Yield the rows that this run added, as lines."""
        self._write_piece(len(self._buffer))
        return self._read(self._pieces)

    def lines(self) -> Iterator[bytes]:
        """Yield all rows, as lines."""
        self._write_piece(len(self._buffer))
        return self._read(piece_files(self.name))

    def remove(self) -> None:
        """Remove the journal."""
        remove(self._fs, self.path)
        self._meta = None

    def close(self) -> None:
        """Write the rows of whole batches that are not in a piece yet."""
        self._write_piece(len(self._buffer) - len(self._buffer) % self._batch_size)

    def _read(self, files: list[str]) -> Iterator[bytes]:
        return read_lines(self.name, files, self._lines)

    def _write_piece(self, rows: int) -> None:
        if rows:
            piece = Piece(f"{self._first + len(self._pieces):09}-{self._session}", 0, last=True)
            self._pieces.append(write_rows(self.name, piece, self._lines, self._buffer[:rows]).file)
            del self._buffer[:rows]


class OutputFolder(Generic[R]):
    """A folder, a path or a URL, and its journal. A piece of the journal has whole batches of ``batch_size`` rows.

    Raises:
        UsageError: the format cannot be written in parts, or the name is not one for a folder.
    """

    def __init__(self, folder: str, row_format: RowFormat[R], *, batch_size: int) -> None:
        if row_format.name not in _SUFFIXES:
            raise UsageError(f"{folder}: a folder of parts is in {', '.join(_SUFFIXES)}, not in {row_format.name}")
        self.name, self._format = folder, row_format
        self._fs, self._path = open_place(folder)
        self._is_local = is_local(self._fs)
        if not self._is_local and is_glob(self._path):
            raise UsageError(f"{folder}: the name of a folder in a store is without * ? [")
        self.journal = FolderJournal(folder, row_format.lines, batch_size=batch_size)
        self._manifest: dict[str, Any] | None = None

    def recover(self) -> None:
        """Complete the last step of a run that was killed in it, and read what earlier runs left.

        Raises:
            UsageError: it cannot be read.
            OutputError: there is a file of this name, or the folder has files that no run wrote.
        """
        with as_output_errors(self.name):
            if self._fs.isfile(self._path):
                raise OutputError(f"{self.name} is a file, not a folder: choose another name")
            if self._is_local and os.path.exists(self._old) and not os.path.exists(self._path):
                os.rename(self._old, self._path)
            self._manifest = read_manifest(self.name)
            self.journal.load()
            journal = self.journal.meta()
            if self._manifest is not None and journal is not None and self._manifest["run"] == journal["run"]:
                self._clean(self._manifest)
            self._check_names(begun=self._manifest is not None or self.journal.meta() is not None)

    def finished_meta(self) -> dict[str, Any] | None:
        """Return the manifest; None if there is none."""
        return self._manifest

    def finished_rows(self) -> Iterator[R]:
        """Yield the rows of the parts."""
        for part in self._manifest["parts"] if self._manifest is not None else ():
            with local_copy(self._fs, f"{self._path}/{part['name']}") as file:
                yield from self._format.read(file)

    def publish(self, lines: Iterable[bytes] | None, meta: Mapping[str, object]) -> None:
        """Put the folder in place with these rows, as lines; None stands for the rows of the journal.

        Raises:
            OutputError: it cannot be written, or the folder has files that no run wrote.
        """
        run = self.journal.run
        with as_output_errors(self.name):
            self._check_names()
            new, tag = (f"{self.journal.path}/new", "") if self._is_local else (self._path, f"-{run[:8]}")
            if self._is_local:
                shutil.rmtree(new, ignore_errors=True)
            rows = iter(self.journal.lines() if lines is None else lines)
            written = self._write_parts(rows, f"{new}/part-", f"{tag}{_SUFFIXES[self._format.name]}", meta)
            parts = [{"name": name, "rows": count} for name, count in written]
            manifest = {**meta, "run": run, "parts": parts}
            write_file(self._fs, f"{new}/{MANIFEST}", dump(manifest))
            if self._is_local:
                put_folder_in_place(new, self._path, self._old)
            self._clean(manifest)

    def publish_unchanged(self, meta: Mapping[str, object]) -> None:
        """Keep the parts and write new metadata."""
        assert self._manifest is not None  # noqa: S101 - there are rows that are unchanged
        with as_output_errors(self.name):
            self._check_names()
            manifest = {**meta, "run": self.journal.run, "parts": self._manifest["parts"]}
            write_file(self._fs, f"{self._path}/{MANIFEST}", dump(manifest))
            self._clean(manifest)

    @property
    def _old(self) -> str:
        """Where the folder of an earlier run stands while the new one takes its name."""
        return f"{self.journal.path}/old"

    def _check_names(self, *, begun: bool = True) -> None:
        """Raise OutputError if the folder has files that no run wrote, except files of desktops.

        Before the first run, when none has ``begun``, any other file is refused.
        """
        names = names_in(self._fs, self._path)
        if others := [name for name in names if not (name in _DESKTOP_FILES or (begun and _is_ours(name)))]:
            if any(map(has_image_suffix, others)):
                raise OutputError(f"{self.name} is a folder of images: name a file, such as -o labels.csv")
            cure = "choose another folder, or a file, such as -o labels.csv"
            raise OutputError(f"{self.name} {_why_not_ours(others)}: {cure}")

    def _write_parts(
        self, lines: Iterator[bytes], start: str, end: str, meta: Mapping[str, object]
    ) -> Iterator[tuple[str, int]]:
        """Write the parts; yield the name of each and its number of rows."""
        for number in itertools.count():
            part = list(itertools.islice(lines, PART))
            if not part:
                break
            path = f"{start}{number:05}{end}"
            with writing_file(self._fs, path) as file:
                self._format.write_lines(file, part, meta)
            yield os.path.basename(path), len(part)

    def _clean(self, manifest: Mapping[str, Any]) -> None:
        """Remove the journal and the parts of earlier runs."""
        named = {MANIFEST, *(part["name"] for part in manifest["parts"])}
        for name in names_in(self._fs, self._path):
            if name not in named and _is_ours(name):
                self._fs.rm_file(f"{self._path}/{name}")
        self.journal.remove()


def _why_not_ours(others: Sequence[str]) -> str:
    return f"has {name_some(others)}, which dinoclassify did not write"


def _is_ours(name: str) -> bool:
    """Whether a run may have written a file of this name."""
    return _OUTPUT_FILES.fullmatch(name) is not None or is_temporary(name)
