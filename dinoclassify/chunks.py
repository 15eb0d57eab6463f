"""Inputs in chunks, as they are written down, and the rows of their pieces: the work on a folder of parts.

    plan/000/000000123-DIGEST           a chunk: its inputs; DIGEST is theirs and of their sizes and times
    rows/000/000000123-DIGEST-00000     the rows of its first piece, as lines of the format, written at a stroke
    rows/000/000000123-DIGEST-00001-last

Whoever answers a chunk, or answers it again because another has died, sees the same inputs; and what is written twice
is as if it were written once. Rows of other inputs, or of the same before they changed, are never taken for these.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.files import Signature, reporting, signature
from dinoclassify.places import names_in, open_place, read_file, write_file
from dinoclassify.rows import Failure
from dinoclassify.sources import Source, Span, Stream
from dinoclassify.stores import is_url
from dinoclassify.writers import Lines, R

CHUNK = 256  # inputs, if batches are no larger

_GROUP = 1000  # chunks whose files are in a folder of their own
_ROWS = re.compile(r"(\d{9,}-[0-9a-f]{16})-(\d{5,})(-last)?")
_CONTENTS = {kind.__name__: kind for kind in (Failure, Span, Stream)}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some inputs, in order, under the name that they are written down by; or one that is a `Stream` of many."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a chunk's rows: the ``number``-th, from 0 on, and whether it is the last."""

    chunk: str
    number: int
    last: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a piece: how many rows it has by status and by error code, and the paths of those that failed."""

    piece: Piece
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    failed: Sequence[str]


def chunk_size(batch_size: int) -> int:
    """How many inputs are in a chunk: whole batches, so that pictures are batched as they would be without chunks."""
    return batch_size * max(1, CHUNK // batch_size)


def read_chunk(work: str, name: str) -> list[Source]:
    """The inputs of a chunk.

    Raises:
        UsageError: it cannot be read.
    """
    fs, path = open_place(work)
    content = read_file(fs, _plan_file(path, name))
    if content is None:
        raise UsageError(f"{work} is not seen by all machines: name a folder that they share, or one in a store")
    return [_from_json(item) for item in json.loads(content)]


def write_chunk(work: str, chunk: Chunk) -> None:
    """Write a chunk down.

    Raises:
        OutputError: it cannot be written.
    """
    fs, path = open_place(work)
    with reporting(work):
        write_file(fs, _plan_file(path, chunk.name), _dump([_as_json(source) for source in chunk.sources]))


def write_rows(work: str, piece: Piece, lines: Lines[R], rows: Sequence[R]) -> Outcome:
    """Write the rows of a piece, all or nothing; gives what became of it.

    Raises:
        OutputError: they cannot be written.
    """
    fs, path = open_place(work)
    name = f"{_rows_folder(path, piece.chunk)}/{piece.chunk}-{piece.number:05}{'-last' if piece.last else ''}"
    with reporting(work):
        write_file(fs, name, b"".join(map(lines.line, rows)))
    failures = [(row.path, row.failure.code) for row in rows if row.failure is not None]
    return Outcome(
        piece,
        Counter(row.status for row in rows),
        Counter(code for _, code in failures),
        [path for path, _ in failures],
    )


def chunked(sources: Iterable[Source], size: int) -> Iterator[Chunk]:
    """Chunks of up to ``size`` sources; a stream is one by itself."""
    for number, some in enumerate(_listed(sources, size)):
        # What is named by a URL alone, and was not listed, is not asked for: that may take longer than reading it.
        content = [(_as_json(source), _signature(source)) for source in some]
        digest = hashlib.blake2b(_dump(content), digest_size=8).hexdigest()
        yield Chunk(f"{number:09}-{digest}", tuple(some))


def is_stream(source: Source) -> bool:
    """Whether a source is many, which are read from front to back."""
    return isinstance(source.content, Stream)


def group_of(chunk: str) -> int:
    """The group of a chunk: they have one after the other."""
    return int(chunk.partition("-")[0]) // _GROUP


def answered(work: str, group: int) -> dict[str, list[str]]:
    """The chunks of a group that have all their rows, with the files that these are in."""
    fs, path = open_place(work)
    folder = _group_folder(path, "rows", group)
    others: dict[str, dict[int, str]] = {}
    last: dict[str, tuple[int, str]] = {}
    for name in names_in(fs, folder):
        if match := _ROWS.fullmatch(name):
            chunk, number, file = match[1], int(match[2]), f"{folder}/{name}"
            if not match[3]:
                others.setdefault(chunk, {})[number] = file
            elif chunk not in last:  # a stream that was read twice, and once was cut short, has two: take the first
                last[chunk] = number, file
    return {
        chunk: [*(others[chunk][number] for number in range(count)), file]
        for chunk, (count, file) in last.items()
        if all(number in others.get(chunk, {}) for number in range(count))
    }


def _listed(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
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
    assert not isinstance(content, bytes)  # noqa: S101 - such a source is found by who reads its archive
    kind = [type(content).__name__, asdict(content)] if content is not None else None
    return {"path": source.path, "content": kind, "signature": source.signature, "position": source.position}


def _from_json(item: Mapping[str, Any]) -> Source:
    content = None
    if item["content"] is not None:
        kind, fields = item["content"]
        content = _CONTENTS[kind](**fields)
    signed = tuple(item["signature"]) if item["signature"] is not None else None
    return Source(item["path"], content, signed, item["position"])


def _plan_file(work: str, chunk: str) -> str:
    return f"{_group_folder(work, 'plan', group_of(chunk))}/{chunk}"


def _rows_folder(work: str, chunk: str) -> str:
    return _group_folder(work, "rows", group_of(chunk))


def _group_folder(work: str, kind: str, group: int) -> str:
    return f"{work}/{kind}/{group:03}"


def _dump(content: object) -> bytes:
    return json.dumps(content, default=str).encode("ascii")
