"""Files of rows, each of a part of the inputs -> one file, as a single run would have written it.

The rows that a shard has kept of other inputs, if any, come first, part by part; then those of its own, as their
positions say. Of a part that is of no shard all rows are like the former. Rows are read as they are needed, and so
memory does not grow with them.
"""

import heapq
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.results.merge.parts import Part, ShardPart, left_of, read_parts, refuse_or_warn
from dinoclassify.results.reader import latest_predictions, read_predictions
from dinoclassify.storage.atomic import as_output_errors, is_regular, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.paths import shown_path
from dinoclassify.storage.scratch_table import ScratchTable
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.fingerprint import is_appended, write_meta
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.stream import stream_rows

# In the meta, as far as all parts agree.
_ALIKE = ("model", "device", "precision", "runtime", "versions", "options", "working_folder")
# Options that say how a part is to be read. The merged file is no shard, and each of its rows counts.
_OF_PARTS = {"shard", "watch"}
_FILES = 3  # that are open while the rows of a part are read
_OTHER_FILES = 100  # that are open besides

# first: the first part that has the path; other: one more that has it; best: the highest rank of its rows.
_TABLE = "CREATE TABLE paths (path TEXT PRIMARY KEY, first INTEGER, other INTEGER, best INTEGER) WITHOUT ROWID"
_INSERT = """
INSERT INTO paths VALUES (?, ?, NULL, ?) ON CONFLICT (path) DO UPDATE SET
    other = iif(excluded.first = first, other, excluded.first), best = max(best, excluded.best)
"""
_DOUBLED = "SELECT path, first, other, count(*) OVER () FROM paths WHERE other IS NOT NULL ORDER BY path LIMIT 1"


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of it: the number of rows by status and by error code, and what is said of the file."""

    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    meta: Mapping[str, object]


def merge(
    names: Iterable[str],
    output: str | None,
    format_name: str,
    *,
    allow_gaps: bool = False,
    allow_duplicates: bool = False,
    watch: Callable[[Iterator[Prediction]], Iterator[Prediction]] = iter,
) -> Merged:
    """Write the rows of all parts: of shards in the order of their inputs, of others in that of the parts.

    Args:
        names: the parts, see `results.merge.parts.find_parts`.
        output: a regular file, which appears whole or not at all, and which ``predict --resume`` goes on with; or a
            device, a pipe or, if it is None, stdout, to which rows go as they come.
        format_name: see `writers.formats.open_format`.
        allow_gaps: merge what there is, also if parts are missing or did not see the same inputs.
        allow_duplicates: of the rows that several parts have of a path, take those of the last part.
        watch: gives the same rows, as they are written.

    Raises:
        UsageError: the parts do not go together, or cannot be read, or are not what they were when they were written.
        OutputError: the output cannot be written.
    """
    kept_in = output if output is not None and is_regular(output) else None
    if kept_in is not None and (left := left_of(kept_in)):
        raise UsageError(
            f"{left[0]} is of a run that was not finished: go on with it by predict --resume, or remove it"
        )
    parts = read_parts(names, allow_gaps=allow_gaps, allow_duplicates=allow_duplicates)
    row_format = open_format(format_name, parts[0].made_with["top-k"])
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    meta: dict[str, object] = {}

    def counted(rows: Iterable[Prediction]) -> Iterator[Prediction]:
        for row in rows:
            yield row
            statuses[row.status] += 1
            if row.failure is not None:
                errors[row.failure.code] += 1
        meta.update(_meta(parts, format_name, statuses, errors))

    with _judging(parts, allow_duplicates=allow_duplicates) as counts:
        rows = watch(counted(row for rank, row in _ranked(parts) if counts(rank, row)))
        if kept_in is None:
            stream_rows(output, row_format, rows)
        else:
            _write(kept_in, row_format, rows, meta)
    if kept_in is not None:
        write_meta(OutputPaths.resolved(kept_in).meta, meta)
    return Merged(statuses, errors, meta)


@contextmanager
def _judging(parts: Sequence[Part], *, allow_duplicates: bool) -> Iterator[Callable[[int, Prediction], bool]]:
    """A function that says whether a row counts: not if another part has rows of its path that go before.

    All rows are read for that, unless no two parts can have the same path: where they are different shards, which have
    kept no rows of other inputs.
    """
    shards = {part.shard for part in parts if isinstance(part, ShardPart) and not part.kept_before}
    if len(parts) in (1, len(shards)):
        yield lambda _rank, _row: True
        return
    with closing(ScratchTable(_TABLE, "the paths of the parts")) as table:
        looked_at = ((shown_path(row.path), rank % len(parts), rank) for rank, row in _ranked(parts))
        table.insert(_INSERT, looked_at)
        doubled = table.first(_DOUBLED)
        if doubled is not None:
            path, first, other, count = doubled
            more = f", and so are {count - 1:,} more in two parts" if count > 1 else ""
            cure = "leave a part out, or --allow-duplicates takes the rows of the last"
            refuse_or_warn(
                f"{path} is in {parts[first].name} and {parts[other].name}{more}", cure, allowed=allow_duplicates
            )

        def counts(rank: int, row: Prediction) -> bool:
            if doubled is None:
                return True
            best = table.first("SELECT best FROM paths WHERE path = ?", (shown_path(row.path),))
            return best is not None and best[0] % len(parts) == rank % len(parts)

        yield counts


def _ranked(parts: Sequence[Part]) -> Iterator[tuple[int, Prediction]]:
    """All rows in the order that they are to have, each with its rank.

    That is the number of its part, and of rows that have positions more by the number of all parts: these go before
    what another part has merely kept, and otherwise later parts go before earlier ones.
    """
    readers = [(part, _rows(part)) for part in parts]
    for number, (part, rows) in enumerate(readers):
        for row in _kept(part, rows):
            yield number, row
    numbered = enumerate(readers, start=len(parts))
    shards = [_placed(part, rows, rank) for rank, (part, rows) in numbered if isinstance(part, ShardPart)]
    _allow_open(_FILES * len(shards) + _OTHER_FILES)
    for _, rank, row in heapq.merge(*shards, key=itemgetter(0)):
        yield rank, row


def _rows(part: Part) -> Iterator[Prediction]:
    """The rows of a part; of one that ``--watch`` wrote, the last of each image."""
    return (latest_predictions if is_appended(part.meta) else read_predictions)(part.name)


def _kept(part: Part, rows: Iterator[Prediction]) -> Iterator[Prediction]:
    """The rows of a part that have no positions."""
    count = 0
    for row in islice(rows, part.kept_before):
        count += 1
        yield row
    if count < (part.kept_before or 0):
        raise _changed(part)


def _placed(part: ShardPart, rows: Iterator[Prediction], rank: int) -> Iterator[tuple[int, int, Prediction]]:
    """The rows of a part that have positions, with these and their rank."""
    try:
        for position, row in zip(part.unpacked(), rows, strict=True):
            yield position, rank, row
    except ValueError as error:  # there are more of one than of the other
        raise _changed(part) from error


def _changed(part: Part) -> UsageError:
    return UsageError(f"{part.name} has more or fewer rows than when it was written: make it again")


def _allow_open(files: int) -> None:
    """Have the system let so many files be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (ValueError, OSError) as error:
        raise UsageError(f"so many parts need {files:,} open files: allow them with ulimit -n {files}") from error


def _write(
    output: str, row_format: RowFormat[Prediction], rows: Iterable[Prediction], meta: Mapping[str, object]
) -> None:
    """Write a file. Its meta is removed just before: for a moment there is none, rather than that of other rows."""
    with replacing(os.path.realpath(output)) as file:
        with as_output_errors(output):
            row_format.write(file, rows, meta)
        row_format.refuse_in_use(output)
        with as_output_errors(OutputPaths(output).meta), suppress(FileNotFoundError):
            os.unlink(OutputPaths.resolved(output).meta)


def _meta(
    parts: Sequence[Part], format_name: str, statuses: Mapping[str, int], errors: Mapping[str, int]
) -> dict[str, object]:
    """What is said of the file, such that `writers.output` goes on with it."""
    alike = _alike([{name: part.meta.get(name) for name in _ALIKE} for part in parts])
    if isinstance(options := alike.get("options"), dict):
        alike["options"] = {name: value for name, value in options.items() if name not in _OF_PARTS}
    return {
        "made_with": {**parts[0].made_with, "format": format_name},
        "adds_to_output": False,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **alike,
        "counts": {status: statuses.get(status, 0) for status in ("ok", "uncertain", "failed")},
        "errors": dict(errors),
        "merged_from": [part.name for part in parts],
    }


def _alike(metas: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What is the same in all of them."""
    same: dict[str, object] = {}
    for name, value in metas[0].items():
        values = [meta.get(name) for meta in metas]
        if all(isinstance(one, dict) for one in values):
            same[name] = _alike([one for one in values if isinstance(one, dict)])
        elif all(one == value for one in values):
            same[name] = value
    return same
