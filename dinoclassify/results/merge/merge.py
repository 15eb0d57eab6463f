"""Parts -> one file, as a single run would have written it.

Rows without positions come first, part by part: all rows of a part that is no shard, and rows that a shard kept from
earlier runs. Rows of shards follow, in the order of their positions. Rows are streamed: memory does not grow with them.
"""

import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any, cast

from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.results.merge.parts import Part, ShardPart, read_parts, refuse_or_warn, unfinished_files
from dinoclassify.results.reader import latest_predictions, read_predictions
from dinoclassify.storage.atomic import as_output_errors, is_regular, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.paths import shown_path
from dinoclassify.storage.scratch_table import ScratchTable
from dinoclassify.system.environment import raise_file_limit
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.fingerprint import is_appended, write_meta
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.stream import stream_rows

# Metadata of the merged file, as far as all parts agree.
_COMMON = ("model", "device", "precision", "runtime", "versions", "options", "working_folder")
# Options that say how to read a part. The merged file is no shard, and all of its rows are current.
_PART_OPTIONS = {"shard", "watch"}
_FILES = 3  # open files for each part that is being read
_OTHER_FILES = 100  # open files of the rest of the process

# first: the first part with the path; other: another part with it; best: the highest rank of its rows.
_TABLE = "CREATE TABLE paths (path TEXT PRIMARY KEY, first INTEGER, other INTEGER, best INTEGER) WITHOUT ROWID"
_INSERT = """
INSERT INTO paths VALUES (?, ?, NULL, ?) ON CONFLICT (path) DO UPDATE SET
    other = iif(excluded.first = first, other, excluded.first), best = max(best, excluded.best)
"""
_DOUBLED = "SELECT path, first, other, count(*) OVER () FROM paths WHERE other IS NOT NULL ORDER BY path LIMIT 1"


@dataclass(frozen=True, slots=True)
class Merged:
    """The number of merged rows by status and by error code, and the metadata of the merged file."""

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
    progress: Callable[[Iterator[Prediction]], Iterator[Prediction]] = iter,
) -> Merged:
    """Write the rows of all parts: rows of shards in the order of their inputs, others in the order of the parts.

    If ``output`` is a regular file, it is written whole or not at all, and ``predict --resume`` can continue it. To a
    device, a pipe or, if it is None, stdout, rows are streamed. ``progress`` wraps the rows as they are written.

    ``allow_gaps``: parts may be missing, or may not have seen the same inputs. ``allow_duplicates``: where several
    parts have rows of a path, those of the last part are taken.

    Raises:
        UsageError: the parts do not belong together, cannot be read, or have changed since they were written.
        OutputError: the output cannot be written.
    """
    file = output if output is not None and is_regular(output) else None
    if file is not None and (unfinished := unfinished_files(file)):
        raise UsageError(f"{unfinished[0]} is from an unfinished run: finish it with predict --resume, or remove it")
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
        meta.update(_merged_meta(parts, format_name, statuses, errors))  # a table writes it after its last row

    with _row_filter(parts, allow_duplicates=allow_duplicates) as is_current:
        rows = progress(counted(row for rank, row in _ranked(parts) if is_current(rank, row)))
        if file is None:
            stream_rows(output, row_format, rows)
        else:
            _write(file, row_format, rows, meta)
    if file is not None:
        write_meta(OutputPaths.resolved(file).meta, meta)
    return Merged(statuses, errors, meta)


@contextmanager
def _row_filter(parts: Sequence[Part], *, allow_duplicates: bool) -> Iterator[Callable[[int, Prediction], bool]]:
    """A function of a rank and its row: False if another part has a row of the same path and a higher rank.

    Reads all rows to find this out, unless the parts cannot share a path: they are different shards, and all of their
    rows have positions.
    """
    shards = {part.shard for part in parts if isinstance(part, ShardPart) and not part.unpositioned}
    if len(parts) in (1, len(shards)):
        yield lambda _rank, _row: True
        return
    with closing(ScratchTable(_TABLE, "the paths of the parts")) as table:
        looked_at = ((shown_path(row.path), rank % len(parts), rank) for rank, row in _ranked(parts))
        table.insert(_INSERT, looked_at)
        doubled = table.first(_DOUBLED)
        if doubled is not None:
            path, first, other, count = doubled
            more = f", and {count_of(count - 1, 'other path')} too" if count > 1 else ""
            cure = "leave a part out, or --allow-duplicates takes the rows of the last"
            refuse_or_warn(
                f"{path} is in {parts[first].name} and {parts[other].name}{more}", cure, allowed=allow_duplicates
            )

        def is_current(rank: int, row: Prediction) -> bool:
            """Whether the row is the last one of its path."""
            if doubled is None:
                return True
            best = table.first("SELECT best FROM paths WHERE path = ?", (shown_path(row.path),))
            if best is None:
                raise UsageError(
                    f"{parts[rank % len(parts)].name} changed while it was read: merge it when it is finished"
                )
            return bool(best[0] % len(parts) == rank % len(parts))

        yield is_current


def _ranked(parts: Sequence[Part]) -> Iterator[tuple[int, Prediction]]:
    """All rows in the order of the output, each with its rank: of rows with the same path the highest rank is current.

    The rank is the number of the part, plus the number of all parts for a row with a position: such a row outranks one
    that another part kept from an earlier run. Otherwise later parts outrank earlier ones.
    """
    readers = [  # of what --watch wrote, only the last row of each image is read
        (part, (latest_predictions if is_appended(part.meta) else read_predictions)(part.name)) for part in parts
    ]
    for number, (part, rows) in enumerate(readers):
        for row in _unpositioned(part, rows):
            yield number, row
    numbered = enumerate(readers, start=len(parts))
    shards = [_positioned(part, rows, rank) for rank, (part, rows) in numbered if isinstance(part, ShardPart)]
    files = _FILES * len(shards) + _OTHER_FILES
    if raise_file_limit(files) < files:
        raise UsageError(f"so many parts need {files:,} open files: allow them with ulimit -n {files}")
    for _, rank, row in heapq.merge(*shards, key=itemgetter(0)):
        yield rank, row


def _unpositioned(part: Part, rows: Iterator[Prediction]) -> Iterator[Prediction]:
    count = 0
    for row in islice(rows, part.unpositioned):
        count += 1
        yield row
    if count < (part.unpositioned or 0):
        raise _row_count_error(part)


def _positioned(part: ShardPart, rows: Iterator[Prediction], rank: int) -> Iterator[tuple[int, int, Prediction]]:
    try:
        for position, row in zip(part.unpack_positions(), rows, strict=True):
            yield position, rank, row
    except ValueError as error:  # more positions than rows, or fewer
        raise _row_count_error(part) from error


def _row_count_error(part: Part) -> UsageError:
    return UsageError(f"{part.name} has more or fewer rows than when it was written: make it again")


def _write(
    output: str, row_format: RowFormat[Prediction], rows: Iterable[Prediction], meta: Mapping[str, object]
) -> None:
    """Write a file. Its old metadata is removed first: for a moment none exists, but never that of other rows."""
    with replacing(os.path.realpath(output)) as file:
        with as_output_errors(output):
            row_format.write(file, rows, meta)
        row_format.refuse_in_use(output)
        with as_output_errors(OutputPaths(output).meta), suppress(FileNotFoundError):
            os.unlink(OutputPaths.resolved(output).meta)


def _merged_meta(
    parts: Sequence[Part], format_name: str, statuses: Mapping[str, int], errors: Mapping[str, int]
) -> dict[str, object]:
    """The metadata of the merged file, with which `writers.output` can continue it."""
    common = _common([{name: part.meta.get(name) for name in _COMMON} for part in parts])
    if isinstance(options := common.get("options"), dict):
        common["options"] = {name: value for name, value in options.items() if name not in _PART_OPTIONS}
    return {
        "made_with": {**parts[0].made_with, "format": format_name},
        "adds_to_output": False,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **common,
        "counts": {status: statuses.get(status, 0) for status in ("ok", "uncertain", "failed")},
        "errors": dict(errors),
        "merged_from": [part.name for part in parts],
    }


def _common(metas: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """The entries that all mappings share, compared recursively."""
    common: dict[str, object] = {}
    for name, value in metas[0].items():
        values = [meta.get(name) for meta in metas]
        if all(isinstance(each, dict) for each in values):
            common[name] = _common(cast(list[dict[str, Any]], values))
        elif all(each == value for each in values):
            common[name] = value
    return common
