"""A folder of rows in parts, from the first run that works on it to the last, on this machine or in a store.

The work is beside the folder, in ``FOLDER.partial``: ``meta.json`` says what the rows are made with, and the rest is as
`dinoclassify.chunks` says. At the end all rows are written to parts, in the order of the inputs, and ``_manifest.json``
names the parts. On this machine the new folder takes its name at once. In a store the manifest does, and parts have
names that no other run gives: whoever follows it sees one run or the other. A run that is killed at any moment can be
taken up again:

    begin   remove the work, its meta first, then write its meta
    end     write the parts, then the manifest, put the folder in place, remove other parts, and the work
"""

import io
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from dinoclassify.chunks import Chunk, answered, chunk_size, chunked, group_of, is_stream, write_chunk
from dinoclassify.containers import is_there
from dinoclassify.earlier import EarlierRow, EarlierRows
from dinoclassify.errors import OutputError, UsageError, name_some
from dinoclassify.files import is_temporary, reporting, settle
from dinoclassify.outputs import check_same, read_lines
from dinoclassify.places import (
    is_local,
    local_copy,
    names_in,
    open_place,
    read_file,
    remove,
    write_file,
    writing_file,
)
from dinoclassify.renames import exchange
from dinoclassify.rows import shown_path
from dinoclassify.sources import MEMBER, Source
from dinoclassify.writers import R, RowFormat

MANIFEST = "_manifest.json"  # readers of folders of Parquet pass over names that begin so

PART = 100_000  # rows

_SUFFIXES = {name: f".{name}" for name in ("csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "parquet")} | {
    "excel": ".csv"
}
_OURS = re.compile(r"_manifest\.json|part-\d{5,}(-[0-9a-f]+)?(\.\w+)+")
_WORK = re.compile(r"meta\.json|plan|rows|new|old")
_SHARED = "do all machines see this folder, and no other run write it? --resume goes on"


class OutputFolder(Generic[R]):
    """The rows of a folder: those that earlier runs have made, and those that this one makes.

    Args:
        folder: where they are in the end: a path or a URL.
        row_format: what they are written in.
        made_with: whatever the answers depend on, by name. Rows that were made with something else are refused.
        batch_size: see `chunk_size`.
        resume: keep the rows of inputs that have not changed.
        retry_failed: but for those that failed; of a run that was killed, for the chunks in which some did.
        prune: drop the rows of files that are gone; otherwise rows of other inputs stay, before those of this run.

    Raises:
        UsageError: there are rows, and they were made with something else, or cannot be read.
        OutputError: there is something else in the folder, or it cannot be written.
    """

    def __init__(
        self,
        folder: str,
        row_format: RowFormat[R],
        made_with: Mapping[str, object],
        *,
        batch_size: int,
        resume: bool = False,
        retry_failed: bool = False,
        prune: bool = False,
    ) -> None:
        if row_format.name not in _SUFFIXES:
            raise UsageError(f"{folder}: a folder of parts is in {', '.join(_SUFFIXES)}, not in {row_format.name}")
        self._name, self.work = folder, work_of(folder)
        self._fs, self._path = open_place(folder)
        _, self._work = open_place(self.work)
        if not is_local(self._fs) and any(character in self._path for character in "*?["):
            raise UsageError(f"{folder}: the name of a folder in a store is without * ? [")
        self._lines, self._table = row_format.lines, row_format.table
        self._suffix = _SUFFIXES[row_format.name]
        self._made_with = json.loads(json.dumps(made_with))
        self._chunk_size = chunk_size(batch_size)
        self._retry_failed = retry_failed
        self._prune = prune
        self._planned: list[_Planned] = []
        self._whole = False  # whether that is all
        self._order: list[tuple[bool, range]] = []  # of all inputs: numbers of earlier rows, or else of fresh inputs
        self._fresh_count = 0
        self._listed: tuple[int, dict[str, list[str]]] = -1, {}
        with reporting(folder):
            self._begin(resume=resume)

    def plan(self, sources: Iterable[Source], on_kept: Callable[[Source, EarlierRow], None]) -> Iterator[Chunk]:
        """Write the inputs down, chunk by chunk. Those chunks are given that are to be answered.

        ``on_kept`` is told of each row of an earlier run, and its input, in the thread that asks for the next chunk.
        """
        for chunk in chunked(self._fresh(sources, on_kept), self._chunk_size):
            first = chunk.sources[0]
            self._planned.append(_Planned(chunk.name, len(chunk.sources), first.path if is_stream(first) else None))
            if not self._keep(chunk, on_kept):
                write_chunk(self.work, chunk)
                yield chunk
        self._whole = True

    def finish(self, meta: Mapping[str, object]) -> None:
        """Put the folder in its place, with ``meta`` in its manifest, when all chunks are answered.

        Raises:
            OutputError: it cannot be written, or somebody has put something else there.
        """
        if not self._whole:
            raise RuntimeError("a run that has not planned all its inputs is not finished")
        with reporting(self._name):
            self._check_names()
            local = is_local(self._fs)
            new, tag = (f"{self._work}/new", "") if local else (self._path, f"-{self._run[:8]}")
            if local:
                shutil.rmtree(new, ignore_errors=True)
            said = {"run": self._run, "made_with": self._made_with, **meta}
            written = self._write_parts(f"{new}/part-", f"{tag}{self._suffix}", said)
            manifest = {**said, "parts": [{"name": name, "rows": rows} for name, rows in written]}
            write_file(self._fs, f"{new}/{MANIFEST}", json.dumps(manifest, indent=2, default=str).encode("ascii"))
            if local:
                self._take_name(new)
            self._clean(manifest)

    def _begin(self, *, resume: bool) -> None:
        if self._fs.isfile(self._path):
            raise OutputError(f"{self._name} is a file, not a folder: choose another name")
        old = f"{self._work}/old"
        if is_local(self._fs) and os.path.exists(old) and not os.path.exists(self._path):
            os.rename(old, self._path)
        manifest, found = read_manifest(self._name), self._read_work()
        if manifest is not None and found is not None and manifest["run"] == found["run"]:
            self._clean(manifest)  # the last step of a run that was killed before it
            found = None
        self._check_names(begun=manifest is not None or found is not None)
        if not resume:
            found = None
        if found is not None:
            check_same(found["made_with"], self.work, self._made_with)
        self._begun = found is not None
        self._adds = resume and manifest is not None and (found is None or found["adds_to_output"])
        self._earlier = self._read_earlier(manifest) if self._adds and manifest is not None else None
        self._run: str = found["run"] if found is not None else uuid.uuid4().hex
        if found is None:
            self._check_work()
            remove(self._fs, self._work)
            meta = {"run": self._run, "made_with": self._made_with, "adds_to_output": self._adds}
            write_file(self._fs, f"{self._work}/meta.json", json.dumps(meta, indent=2, default=str).encode("ascii"))

    def _read_work(self) -> dict[str, Any] | None:
        content = read_file(self._fs, f"{self._work}/meta.json")
        return _parsed(content, f"{self.work}/meta.json", {"run", "made_with", "adds_to_output"}) if content else None

    def _check_work(self) -> None:
        """Find out whether all that is in the work folder is ours."""
        names = names_in(self._fs, self._work)
        if others := [name for name in names if not (_WORK.fullmatch(name) or is_temporary(name))]:
            raise OutputError(f"{self.work} has {name_some(others)}, which no run wrote: choose another folder")

    def _check_names(self, *, begun: bool = True) -> None:
        """Find out whether all that is in the folder is ours."""
        names = names_in(self._fs, self._path)
        if others := [name for name in names if not (begun and _OURS.fullmatch(name))]:
            raise OutputError(f"{self._name} has {name_some(others)}, which no run wrote: choose another folder")

    def _read_earlier(self, manifest: Mapping[str, Any]) -> EarlierRows[R]:
        check_same(manifest["made_with"], self._name, self._made_with)
        earlier = EarlierRows(self._lines)
        for part in manifest["parts"]:
            name = f"{self._path}/{part['name']}"
            try:
                with local_copy(self._fs, name) as file:
                    for row in self._table.read(file) if self._table is not None else read_lines(file, self._lines):
                        earlier.add(row, newer=False)
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise UsageError(f"--resume: {name} cannot be read ({error}): run without it") from error
        return earlier

    def _fresh(self, sources: Iterable[Source], on_kept: Callable[[Source, EarlierRow], None]) -> Iterator[Source]:
        """Those inputs that have no row in the finished folder; and all that are streams, as if they had none."""
        for source in sources:
            row = self._earlier.ask(source) if self._earlier is not None and not is_stream(source) else None
            if row is None or (self._retry_failed and row.status == "failed"):
                _add(self._order, self._fresh_count, earlier=False)
                self._fresh_count += 1
                yield source
            else:
                _add(self._order, row.number, earlier=True)
                on_kept(source, row)

    def _keep(self, chunk: Chunk, on_kept: Callable[[Source, EarlierRow], None]) -> bool:
        """Whether a chunk has all its rows already, of its inputs as they are now."""
        files = self._files(chunk.name) if self._begun else None
        if files is None or (self._retry_failed and any(row.status == "failed" for row in self._read_rows(files))):
            return False
        for number, row in enumerate(self._read_rows(files)):
            failure = row.failure
            on_kept(Source(row.path), EarlierRow(number, row.status, failure.code if failure is not None else None))
        return True

    def _read_rows(self, files: Iterable[str]) -> Iterator[R]:
        return map(self._lines.parse, self._read_lines(files))

    def _read_lines(self, files: Iterable[str]) -> Iterator[bytes]:
        for file in files:
            yield from self._lines.lines(io.BytesIO(self._fs.cat_file(file)))

    def _files(self, chunk: str) -> list[str] | None:
        """The files with the rows of a chunk, if they are all there."""
        group = group_of(chunk)
        if self._listed[0] != group:
            self._listed = group, answered(self.work, group)
        return self._listed[1].get(chunk)

    def _write_parts(self, start: str, end: str, meta: Mapping[str, object]) -> Iterator[tuple[str, int]]:
        lines = self._all_lines()
        for number in itertools.count():
            first = next(lines, None)
            if first is None:
                break
            count = _Counter(itertools.chain([first], itertools.islice(lines, PART - 1)))
            path = f"{start}{number:05}{end}"
            with writing_file(self._fs, path) as file:
                if self._table is not None:
                    self._table.write(file, map(self._lines.parse, count), meta)
                else:
                    file.write(self._lines.header())
                    file.writelines(count)
            yield os.path.basename(path), count.value

    def _all_lines(self) -> Iterator[bytes]:
        """All rows: those of other inputs that stay, and those of this run's, in order."""
        self._listed = -1, {}
        fresh = self._fresh_lines()
        for is_earlier, numbers in itertools.chain(self._others(), self._order):
            if is_earlier:
                assert self._earlier is not None  # noqa: S101 - there are rows of it
                yield from map(self._lines.line, self._earlier.read([numbers]))
            else:
                yield from itertools.chain.from_iterable(itertools.islice(fresh, len(numbers)))

    def _fresh_lines(self) -> Iterator[Iterable[bytes]]:
        """The rows of each fresh input."""
        for chunk in self._planned:
            files = self._files(chunk.name)
            if files is None:
                raise OutputError(f"{self.work} lacks rows that were written: {_SHARED}")
            lines = self._read_lines(files)
            if chunk.stream is not None:
                yield lines
                continue
            rows = [[line] for line in lines]
            if len(rows) != chunk.inputs:
                raise OutputError(f"{self.work} has {len(rows)} rows of {chunk.inputs} inputs: {_SHARED}")
            yield from rows

    def _others(self) -> Iterator[tuple[bool, range]]:
        """The numbers of earlier rows that are not of this run's inputs, and stay."""
        numbers: list[tuple[bool, range]] = []
        streams = {shown_path(chunk.stream) for chunk in self._planned if chunk.stream is not None}
        for number, path in self._earlier.others() if self._earlier is not None else ():
            read_again = path in streams or any(
                path[: at.start()] in streams for at in re.finditer(re.escape(MEMBER), path)
            )
            if not read_again and not (self._prune and not is_there(path)):
                _add(numbers, number, earlier=True)
        return iter(numbers)

    def _take_name(self, new: str) -> None:
        """Have the folder ``new`` under our name, and what was there, if anything, in its place."""
        settle(new)
        if os.path.exists(self._path):
            if not exchange(new, self._path):
                os.rename(self._path, f"{self._work}/old")
                os.rename(new, self._path)
        else:
            os.rename(new, self._path)
        settle(os.path.dirname(self._path))

    def _clean(self, manifest: Mapping[str, Any]) -> None:
        """Remove what is left of this run, and of those before it, when it is done."""
        named = {MANIFEST, *(part["name"] for part in manifest["parts"])}
        for name in names_in(self._fs, self._path):
            if name not in named and _OURS.fullmatch(name):
                self._fs.rm_file(f"{self._path}/{name}")
        remove(self._fs, self._work)


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is remembered of a chunk: how many inputs it has, and the path if it is a stream."""

    name: str
    inputs: int
    stream: str | None


class _Counter(Iterator[bytes]):
    """The same lines, and how many there were."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.value = 0

    def __next__(self) -> bytes:
        line = next(self._lines)
        self.value += 1
        return line


def work_of(folder: str) -> str:
    """Where the work on a folder is, until it is done."""
    return f"{folder.rstrip('/')}.partial"


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


def _add(order: list[tuple[bool, range]], number: int, *, earlier: bool) -> None:
    """Add to runs of numbers, of which there are few where rows stand in the order of the inputs."""
    if order and order[-1][0] == earlier and order[-1][1].stop == number:
        order[-1] = earlier, range(order[-1][1].start, number + 1)
    else:
        order.append((earlier, range(number, number + 1)))


def _parsed(content: bytes, name: str, wanted: set[str]) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(content)
        if not (isinstance(parsed, dict) and wanted <= parsed.keys()):
            raise ValueError("it lacks what a run writes")
    except ValueError as error:
        raise UsageError(f"cannot read {name}: {error}") from error
    return parsed
