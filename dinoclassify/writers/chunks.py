"""The files in the journal of a folder of parts, which many machines may share.

    plan/000/000000123-DIGEST              a chunk: its inputs, for the machine that makes its rows
    rows/000/000000123-DIGEST-00000        the first piece of its rows, as lines, written whole
    rows/000/000000123-DIGEST-00001-last   its last piece

A chunk that is repeated because a process died has the same inputs, and a piece that is written twice has the same
rows. OutputError is raised for what cannot be written.
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
from dinoclassify.messages import count_of
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.remote.filesystem import names_in, open_place, read_file, write_file
from dinoclassify.storage.remote.url import is_url
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.run_options import whole_batches
from dinoclassify.types.source import ByteRange, SequentialContainer, Signature, Source
from dinoclassify.writers.formats.base import Lines, R

log = logging.getLogger(__name__)

CHUNK = 256  # inputs, unless a batch is larger

_GROUP = 1000  # chunks whose files share a folder; a stream has its own
_PIECE = re.compile(r"(\d{9,}-[0-9a-f]{16}|stream-[0-9a-f]{16})-(\d{5,})(-last)?")
_STREAM = "stream-"  # starts the name of a chunk that is one stream
# By their names in the file format; kept for journals of older versions.
_CONTENTS = {"Failure": Failure, "Span": ByteRange, "Stream": SequentialContainer}
_CONTENT_NAMES = {kind: name for name, kind in _CONTENTS.items()}
_SHARED = "check that all machines share this folder and that no other run writes it; --resume goes on"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Inputs in order, or one stream: a `SequentialContainer` of many inputs.

    ``done``: the numbers of the pieces of a stream that are written already.
    """

    name: str
    sources: tuple[Source, ...]
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a chunk: piece ``number``, counted from 0."""

    chunk: str
    number: int
    last: bool


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A written piece: its file, its rows by status and by error code, and the paths of failed rows."""

    piece: Piece
    file: str
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    failed: Sequence[str]


def chunk_size(batch_size: int) -> int:
    """Return the number of inputs in a chunk: whole batches, so that images are batched as without chunks."""
    whole = whole_batches(batch_size)
    return whole * max(1, CHUNK // whole)


def read_chunk(work: str, name: str) -> Chunk:
    """Return a chunk of the plan. Raises UsageError if this machine does not see it."""
    fs, path = open_place(work)
    content = read_file(fs, _file(path, "plan", name))
    if content is None:
        cure = "name a folder that they share, or one in a store (dinoclassify guide ray)"
        raise UsageError(f"{work} is not shared by all machines: {cure}")
    plan = json.loads(content)
    return Chunk(name, tuple(map(_from_json, plan["sources"])), tuple(plan["done"]))


def write_chunk(work: str, chunk: Chunk) -> None:
    """Add a chunk to the plan."""
    fs, path = open_place(work)
    plan = {"sources": list(map(_as_json, chunk.sources)), "done": chunk.done}
    with as_output_errors(work):
        write_file(fs, _file(path, "plan", chunk.name), _dump(plan))


def write_rows(work: str, piece: Piece, lines: Lines[R], rows: Sequence[R]) -> ChunkResult:
    """Write the rows of a piece, all or nothing."""
    fs, path = open_place(work)
    name = f"{_file(path, 'rows', piece.chunk)}-{piece.number:05}{'-last' if piece.last else ''}"
    with as_output_errors(work):
        write_file(fs, name, b"".join(map(lines.line, rows)))
    statuses = Counter[str](row.status for row in rows)
    errors = Counter[str](row.failure.code for row in rows if row.failure is not None)
    return ChunkResult(piece, name, statuses, errors, [row.path for row in rows if row.failure is not None])


def piece_files(work: str) -> list[str]:
    """Return the files of all pieces, in the order of their names."""
    fs, path = open_place(work)
    folders = [f"{path}/rows/{group}" for group in names_in(fs, f"{path}/rows")]
    return [f"{folder}/{name}" for folder in folders for name in names_in(fs, folder) if _PIECE.fullmatch(name)]


def next_number(files: Iterable[str]) -> int:
    """Return the number after those of the chunks of these pieces, so that rows of a later run follow them."""
    chunks = [chunk for chunk, _, _ in map(_parse, files) if not chunk.startswith(_STREAM)]
    return max((int(chunk.partition("-")[0]) for chunk in chunks), default=-1) + 1


def read_lines(work: str, files: Iterable[str], lines: Lines[R]) -> Iterator[bytes]:
    """Yield the rows of pieces, as lines."""
    fs, _ = open_place(work)
    for file in files:
        yield from lines.lines(io.BytesIO(fs.cat_file(file)))


class ChunkPlan(Generic[R]):
    """The inputs of a run in chunks that other processes work on, and the pieces that these write.

    Args:
        work: the folder of the journal. Pieces of streams that an interrupted run left there are kept.
        lines: the format of the rows.
        size: inputs in a chunk, and rows in a piece.
        retry_failed: repeat the pieces of streams in which a row failed.
    """

    def __init__(self, work: str, lines: Lines[R], size: int, *, retry_failed: bool) -> None:
        self.work = work
        self._lines, self._size = lines, size
        self._planned: list[tuple[str, int]] = []  # name and number of inputs of each chunk; 0 for a stream
        self._is_fully_planned = False
        self._files: dict[str, dict[int, str]] = {}  # the pieces of each chunk by number
        self._last_numbers: dict[str, set[int]] = {}  # of pieces marked last: two readings of a stream may differ
        files = piece_files(work)
        self._first = next_number(files)
        for file in files:
            if _parse(file)[0].startswith(_STREAM) and not (retry_failed and self._has_failed(file)):
                self.add(file)

    def chunks(self, sources: Iterable[Source], on_row: Callable[[R], None]) -> Iterator[Chunk]:
        """Yield the chunks that need rows; each is in the plan by then.

        ``on_row`` is called with each row of a stream that is kept.
        """
        streams: Counter[bytes] = Counter()
        for group in _grouped(sources, self._size):
            # Do not ask a store for missing signatures: that may take longer than to read the object.
            content = _dump([(_as_json(source), _signature(source)) for source in group])
            if not is_stream(group[0]):
                name = f"{self._first + len(self._planned):09}-{_digest(content)}"
                self._planned.append((name, len(group)))
            else:
                name = _STREAM + _digest(content + b"%d" % streams[content])  # the same in the next run
                streams[content] += 1
                self._planned.append((name, 0))
                self._drop_early_end(name)
                for line in self._read(name):
                    on_row(self._lines.parse(line))
            if not (is_stream(group[0]) and self._is_complete(name)):
                chunk = Chunk(name, tuple(group), tuple(sorted(self._files.get(name, {}))))
                write_chunk(self.work, chunk)
                yield chunk
        self._is_fully_planned = True

    def add(self, file: str) -> None:
        """Add a written piece. Of two pieces with the same number, the one not marked last counts."""
        name, number, last = _parse(file)
        files = self._files.setdefault(name, {})
        if last:
            self._last_numbers.setdefault(name, set()).add(number)
        if not (last and number in files):
            files[number] = file

    def stream_paths(self) -> Iterator[str]:
        """Yield the paths of all rows of streams."""
        for name, inputs in self._planned:
            if not inputs:
                yield from (self._lines.parse(line).path for line in self._read(name))

    def rows(self) -> Iterator[list[bytes]]:
        """Yield the lines of each input, in order: many for a stream, one for any other input.

        Raises:
            OutputError: rows are missing, or the longer of two readings of a stream is not complete.
        """
        if not self._is_fully_planned:
            raise RuntimeError("a run that has not planned all its inputs is not finished")
        for name, inputs in self._planned:
            if not self._is_complete(name):
                raise OutputError(f"{self.work} lacks rows that were written: {_SHARED}")
            if len(self._last_numbers[name]) > 1:
                log.warning("an archive or table was read twice, with different lengths: the longer reading is kept")
            lines = list(self._read(name))
            if inputs not in (0, len(lines)):
                counts = f"{count_of(len(lines), 'row')} of {count_of(inputs, 'input')}"
                raise OutputError(f"{self.work} has {counts}: {_SHARED}")
            yield from ([line] for line in lines) if inputs else [lines]

    def _read(self, name: str) -> Iterator[bytes]:
        files = self._files.get(name, {})
        return read_lines(self.work, [files[number] for number in sorted(files)], self._lines)

    def _has_failed(self, file: str) -> bool:
        lines = read_lines(self.work, [file], self._lines)
        return any(self._lines.parse(line).status == "failed" for line in lines)

    def _is_complete(self, name: str) -> bool:
        """Whether no piece is missing, and the one marked last is the last."""
        files = self._files.get(name, {})
        lasts = [_parse(files[number])[2] for number in sorted(files)]
        return lasts == [False] * max(files, default=0) + [True]

    def _drop_early_end(self, name: str) -> None:
        """Drop the piece marked last if others are missing: the process that makes those marks the last one again."""
        if not self._is_complete(name):
            for number in self._last_numbers.pop(name, ()):
                if _parse(self._files[name][number])[2]:
                    del self._files[name][number]


def _parse(file: str) -> tuple[str, int, bool]:
    """Return the chunk of a piece, its number, and whether it is marked last, from the name of its file."""
    match = _PIECE.fullmatch(file.rpartition("/")[2])
    assert match is not None  # noqa: S101 - `piece_files` returns no others
    return match[1], int(match[2]), match[3] is not None


def is_stream(source: Source) -> bool:
    """Whether a source holds many images that can only be read in order."""
    return isinstance(source.content, SequentialContainer)


def _grouped(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    """Yield groups of up to ``size`` sources; a stream is a group of its own."""
    group: list[Source] = []
    for source in sources:
        if group and is_stream(source):
            yield group
            group = []
        group.append(source)
        if len(group) == size or is_stream(source):
            yield group
            group = []
    if group:
        yield group


def _signature(source: Source) -> Signature | None:
    return source.signature if source.signature is not None or is_url(source.path) else file_signature(source.path)


def _as_json(source: Source) -> dict[str, object]:
    content = source.content
    assert not isinstance(content, bytes)  # noqa: S101 - only a reader of archives makes such a source
    kind = [_CONTENT_NAMES[type(content)], asdict(content)] if content is not None else None
    return {"path": source.path, "content": kind, "signature": source.signature, "position": source.position}


def _from_json(item: Mapping[str, Any]) -> Source:
    content = None
    if item["content"] is not None:
        kind, fields = item["content"]
        content = _CONTENTS[kind](**fields)
    signature = tuple(item["signature"]) if item["signature"] is not None else None
    return Source(item["path"], content, signature, item["position"])


def _file(work: str, kind: str, chunk: str) -> str:
    group = chunk if chunk.startswith(_STREAM) else f"{int(chunk.partition('-')[0]) // _GROUP:03}"
    return f"{work}/{kind}/{group}/{chunk}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _dump(content: object) -> bytes:
    return json.dumps(content, default=str).encode("ascii")
