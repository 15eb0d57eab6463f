"""The journal of a folder of parts: files of rows in a folder that many machines may share.

    rows/000/000000123-DIGEST-00000        the first piece of a chunk's rows, as lines, written whole
    rows/000/000000123-DIGEST-00001-last
    plan/000/000000123-DIGEST              the chunk: its inputs, for the machine that makes its rows

A chunk that is done again, because the process that did it has died, has the same inputs; a piece that is written twice
is the same piece.
"""

import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.files import Signature, reporting, signature
from dinoclassify.places import names_in, open_place, read_file, write_file
from dinoclassify.rows import Failure
from dinoclassify.sources import Source, Span, Stream
from dinoclassify.stores import is_url
from dinoclassify.writers import Lines, R

log = logging.getLogger(__name__)

CHUNK = 256  # inputs, if batches are no larger

_GROUP = 1000  # chunks whose files share a folder
_PIECE = re.compile(r"(\d{9,}-[0-9a-f]{16}|stream-[0-9a-f]{16})-(\d{5,})(-last)?")
_CONTENTS = {kind.__name__: kind for kind in (Failure, Span, Stream)}
_SHARED = "do all machines see this folder, and does no other run write it? --resume goes on"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Inputs in order, or one `Stream` of many.

    ``done`` are the numbers of the pieces that a stream has already.
    """

    name: str
    sources: tuple[Source, ...]
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a chunk's rows: the ``number``-th, from 0 on, and whether it is the last."""

    chunk: str
    number: int
    last: bool


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A piece that is written: its file, its rows by status and by error code, and the paths of those that failed."""

    piece: Piece
    file: str
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    failed: Sequence[str]


def chunk_size(batch_size: int) -> int:
    """The number of inputs in a chunk: whole batches, so that images are batched as they would be without chunks."""
    return batch_size * max(1, CHUNK // batch_size)


def read_chunk(work: str, name: str) -> Chunk:
    """A chunk of the plan.

    Raises:
        UsageError: it cannot be read.
    """
    fs, path = open_place(work)
    content = read_file(fs, _file(path, "plan", name))
    if content is None:
        raise UsageError(f"{work} is not seen by all machines: name a folder that they share, or one in a store")
    plan = json.loads(content)
    return Chunk(name, tuple(map(_from_json, plan["sources"])), tuple(plan["done"]))


def write_chunk(work: str, chunk: Chunk) -> None:
    """Add a chunk to the plan.

    Raises:
        OutputError: it cannot be written.
    """
    fs, path = open_place(work)
    plan = {"sources": list(map(_as_json, chunk.sources)), "done": chunk.done}
    with reporting(work):
        write_file(fs, _file(path, "plan", chunk.name), _dump(plan))


def write_rows(work: str, piece: Piece, lines: Lines[R], rows: Sequence[R]) -> ChunkResult:
    """Write the rows of a piece, all or nothing.

    Raises:
        OutputError: they cannot be written.
    """
    fs, path = open_place(work)
    name = f"{_file(path, 'rows', piece.chunk)}-{piece.number:05}{'-last' if piece.last else ''}"
    with reporting(work):
        write_file(fs, name, b"".join(map(lines.line, rows)))
    failures = [(row.path, row.failure.code) for row in rows if row.failure is not None]
    return ChunkResult(
        piece,
        name,
        Counter(row.status for row in rows),
        Counter(code for _, code in failures),
        [path for path, _ in failures],
    )


def piece_files(work: str) -> list[str]:
    """The files of all pieces, in the order of their names."""
    fs, path = open_place(work)
    folders = [f"{path}/rows/{group}" for group in names_in(fs, f"{path}/rows")]
    return [f"{folder}/{name}" for folder in folders for name in names_in(fs, folder) if _PIECE.fullmatch(name)]


def read_lines(work: str, files: Iterable[str], lines: Lines[R]) -> Iterator[bytes]:
    """The rows in some pieces, as lines."""
    fs, _ = open_place(work)
    for file in files:
        yield from lines.lines(io.BytesIO(fs.cat_file(file)))


class ChunkPlan(Generic[R]):
    """The inputs of a run that other processes work on, chunk by chunk, and the rows that they write.

    Args:
        work: the folder of the journal.
        lines: the format of its rows.
        size: inputs in a chunk.
        retry_failed: make the pieces of a stream again in which a row failed.
    """

    def __init__(self, work: str, lines: Lines[R], size: int, *, retry_failed: bool) -> None:
        self.work = work
        self._lines, self._size, self._retry_failed = lines, size, retry_failed
        self._planned: list[tuple[str, int]] = []  # the name of each chunk and its number of inputs; 0 for a stream
        self._whole = False
        self._listed: tuple[str, list[str]] = "", []  # the folder that was listed last, and its files

    def chunks(self, sources: Iterable[Source], on_row: Callable[[R], None]) -> Iterator[Chunk]:
        """The chunks that are to be done; each is in the plan when it is given.

        ``on_row`` is told of each row that an interrupted run has made of a stream.
        """
        streams: Counter[bytes] = Counter()
        for some in _grouped(sources, self._size):
            # An object that is known by its URL alone is not asked for: that may take longer than to read it.
            content = _dump([(_as_json(source), _signature(source)) for source in some])
            if not is_stream(some[0]):
                name, done = f"{len(self._planned):09}-{_digest(content)}", list[str]()
                self._planned.append((name, len(some)))
            else:
                name = f"stream-{_digest(content + b'%d' % streams[content])}"  # the same in the next run
                streams[content] += 1
                self._planned.append((name, 0))
                done = self._done(name)
                for row in map(self._lines.parse, read_lines(self.work, done, self._lines)):
                    on_row(row)
            if not (done and _match(done[-1])[3]):
                chunk = Chunk(name, tuple(some), tuple(int(_match(file)[2]) for file in done))
                write_chunk(self.work, chunk)
                yield chunk
        self._whole = True

    def stream_paths(self) -> Iterator[str]:
        """The paths of all rows of streams, when all chunks are done."""
        self._listed = "", []
        for name, inputs in self._planned:
            if not inputs:
                rows = map(self._lines.parse, read_lines(self.work, self._complete(name), self._lines))
                yield from (row.path for row in rows)

    def rows(self) -> Iterator[list[bytes]]:
        """The lines of each input, in order, when all chunks are done. A stream has many, any other input has one.

        Raises:
            OutputError: rows are missing.
        """
        if not self._whole:
            raise RuntimeError("a run that has not planned all its inputs is not finished")
        self._listed = "", []
        for name, inputs in self._planned:
            lines = list(read_lines(self.work, self._complete(name), self._lines))
            if not inputs:
                yield lines
            elif len(lines) == inputs:
                yield from ([line] for line in lines)
            else:
                raise OutputError(f"{self.work} has {len(lines)} rows of {inputs} inputs: {_SHARED}")

    def _complete(self, name: str) -> list[str]:
        """The files of a chunk.

        Raises:
            OutputError: they are not all there.
        """
        files, ends = self._pieces(name)
        if not (files and _match(files[-1])[3]):
            raise OutputError(f"{self.work} lacks rows that were written: {_SHARED}")
        if ends > 1:
            log.warning("an archive or table was read twice, with two lengths: the longer reading counts")
        return files

    def _done(self, name: str) -> list[str]:
        """The files of a stream that need not be made again: all, or some that are not the last."""
        files, _ = self._pieces(name)
        if self._retry_failed:
            files = [
                file
                for file in files
                if all(
                    self._lines.parse(line).status != "failed" for line in read_lines(self.work, [file], self._lines)
                )
            ]
        complete = files and _match(files[-1])[3] and len(files) == int(_match(files[-1])[2]) + 1
        return files if complete else [file for file in files if not _match(file)[3]]

    def _pieces(self, name: str) -> tuple[list[str], int]:
        """The files of a chunk in order, the last piece only if no other is missing; and how many say to be the last."""
        group = _group(name)
        if self._listed[0] != group:
            fs, path = open_place(self.work)
            self._listed = group, [f"{path}/rows/{group}/{file}" for file in names_in(fs, f"{path}/rows/{group}")]
        files = [file for file in self._listed[1] if file.rpartition("/")[2].startswith(f"{name}-")]
        inner = {int(_match(file)[2]): file for file in files if not _match(file)[3]}
        ends = {int(_match(file)[2]): file for file in files if _match(file)[3]}
        end = max(ends, default=-1)
        if end >= 0 and set(inner) == set(range(end)):
            inner[end] = ends[end]
        return [inner[number] for number in sorted(inner)], len(ends)


def _match(file: str) -> re.Match[str]:
    """The parts of a piece's file name: chunk, number and ``-last``."""
    match = _PIECE.fullmatch(file.rpartition("/")[2])
    if match is None:
        raise OutputError(f"{file} is not a file of rows: remove it")
    return match


def is_stream(source: Source) -> bool:
    """Whether a source is many, which are read from front to back."""
    return isinstance(source.content, Stream)


def _grouped(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    """Up to ``size`` sources at a time; a stream is by itself."""
    some: list[Source] = []
    for source in sources:
        if some and is_stream(source):
            yield some
            some = []
        some.append(source)
        if len(some) == size or is_stream(source):
            yield some
            some = []
    if some:
        yield some


def _signature(source: Source) -> Signature | None:
    return source.signature if source.signature is not None or is_url(source.path) else signature(source.path)


def _as_json(source: Source) -> dict[str, object]:
    content = source.content
    assert not isinstance(content, bytes)  # noqa: S101 - such a source is found by whoever reads its archive
    kind = [type(content).__name__, asdict(content)] if content is not None else None
    return {"path": source.path, "content": kind, "signature": source.signature, "position": source.position}


def _from_json(item: Mapping[str, Any]) -> Source:
    content = None
    if item["content"] is not None:
        kind, fields = item["content"]
        content = _CONTENTS[kind](**fields)
    signed = tuple(item["signature"]) if item["signature"] is not None else None
    return Source(item["path"], content, signed, item["position"])


def _group(chunk: str) -> str:
    """The folder of a chunk's files: a thousand chunks share one, a stream has its own."""
    number = chunk.partition("-")[0]
    return f"{int(number) // _GROUP:03}" if number.isdecimal() else chunk


def _file(work: str, kind: str, chunk: str) -> str:
    return f"{work}/{kind}/{_group(chunk)}/{chunk}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _dump(content: object) -> bytes:
    return json.dumps(content, default=str).encode("ascii")
