"""A file of rows, from the first run that works on it to the last.

Rows go to ``OUTPUT.partial`` as they are done, as lines: of the format itself, or JSON Lines where that is a table. At
the end the partial takes the name OUTPUT or, where rows of an earlier run are kept or a table is to be made, a new file
does that is made of both. ``OUTPUT.partial.meta.json`` says what the partial is made with. These steps, in this order,
are such that a run which is killed at any moment can be taken up again:

    begin   make the partial, then write its meta
    end     write the meta with the figures, put the file in place, remove the partial if it was not that,
            give the meta its final name
"""

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Generic

from dinoclassify.containers import is_file_name, is_there
from dinoclassify.earlier import EarlierRow, EarlierRows
from dinoclassify.errors import UsageError
from dinoclassify.files import append, put_in_place, replacing, reporting, signature
from dinoclassify.rows import file_shown_as
from dinoclassify.sources import Source
from dinoclassify.writers import Lines, R, RowFormat, Table

log = logging.getLogger(__name__)


class OutputFile(Generic[R]):
    """The rows of a regular file: those that earlier runs have made, and those that this one makes.

    Args:
        path: where they are in the end.
        row_format: what they are written in.
        made_with: whatever the answers depend on, by name. Rows that were made with something else are refused.
        batch_size: rows of a partial are kept in whole batches, so that the rest is batched as it would have been.
        resume: keep the rows of inputs that have not changed.
        retry_failed: but for those that failed.
        prune: drop the rows of files that are gone; otherwise rows of other inputs stay, before those of this run.

    Raises:
        UsageError: there are rows, and they were made with something else, or cannot be read.
        OutputError: the partial cannot be written.
    """

    def __init__(
        self,
        path: str,
        row_format: RowFormat[R],
        made_with: Mapping[str, object],
        *,
        batch_size: int,
        resume: bool = False,
        retry_failed: bool = False,
        prune: bool = False,
    ) -> None:
        self._name, self._path = path, os.path.realpath(path)  # a link stays one
        self._partial = f"{self._path}.partial"
        self._meta, self._partial_meta = f"{self._path}.meta.json", f"{self._partial}.meta.json"
        self._row_format, self._lines, self._table = row_format, row_format.lines, row_format.table
        self._made_with = json.loads(json.dumps(made_with))
        self._retry_failed = retry_failed
        self._prune = prune
        self._adds, self._finished = False, 0  # whether to the rows of a finished output, and to how many
        self._order: list[range] = []  # the numbers of the rows of all inputs so far
        self._earlier = self._read_earlier(batch_size) if resume else None
        if self._earlier is None:
            with reporting(f"{self._name}.partial.meta.json"), suppress(FileNotFoundError):
                os.unlink(self._partial_meta)  # from here on an old partial is nothing
            with replacing(self._partial) as file:
                file.write(self._lines.header())
        self._next = self._earlier.count if self._earlier is not None else 0
        self._write_meta({})
        with reporting(f"{self._name}.partial"):
            self._file = open(self._partial, "ab")  # noqa: SIM115 - closed by `close`

    def fresh(self, sources: Iterable[Source], on_kept: Callable[[Source, EarlierRow], None]) -> Iterator[Source]:
        """Those inputs that have no row yet. Their predictions are to be written, in this order."""
        for source in sources:
            row = self._earlier.ask(source) if self._earlier is not None else None
            if row is None or (self._retry_failed and row.status == "failed"):
                _add(self._order, range(self._next, self._next + 1))
                self._next += 1
                yield source
            else:
                _add(self._order, range(row.number, row.number + 1))
                on_kept(source, row)

    def write(self, row: R) -> None:
        """Write a row to the partial: it is there when this returns."""
        with reporting(f"{self._name}.partial"):
            append(self._file.fileno(), self._lines.line(row))
        if self._earlier is not None:
            self._earlier.add(row, newer=True, asked=True)

    def finish(self, meta: Mapping[str, object], taken: Callable[[int], Mapping[str, object]] | None = None) -> None:
        """Put the file in its place, with ``meta`` beside it.

        ``taken`` says of a run that took a shard which inputs that was, when it is told how many rows of others stand
        before theirs.
        """
        with reporting(f"{self._name}.partial"):
            os.fsync(self._file.fileno())
        numbers = self._others()
        shard = {"shard": taken(sum(map(len, numbers)))} if taken is not None else {}
        self._write_meta({**meta, **shard})
        for some in self._order:
            _add(numbers, some)
        in_order = numbers == [range(self._next)]
        if in_order and self._adds and self._next == self._finished:
            pass  # there is nothing new
        elif in_order and not self._adds and self._table is None:
            put_in_place(self._partial, self._path)
        else:
            with replacing(self._path) as file:
                self._write_all(file, numbers, self._whole_meta({**meta, **shard}))
        with reporting(f"{self._name}.partial"), suppress(FileNotFoundError):
            os.unlink(self._partial)
        put_in_place(self._partial_meta, self._meta)

    def close(self) -> None:
        """Close the partial, whether it is finished or not."""
        self._file.close()

    def _read_earlier(self, batch_size: int) -> EarlierRows[R] | None:
        """The rows of the output and of its partial, if there are any."""
        if os.path.exists(self._partial_meta) and not os.path.exists(self._partial):
            with open(self._partial_meta, encoding="utf-8") as file:
                done = '"counts"' in file.read()
            if done:
                put_in_place(self._partial_meta, self._meta)  # the last step of a run that was killed before it
            else:
                os.unlink(self._partial_meta)  # somebody has removed what it was about
        earlier = EarlierRows(self._lines)
        begun = os.path.exists(self._partial_meta)
        if begun:
            meta = check_made_with(self._partial_meta, f"{self._name}.partial", self._made_with)
            self._adds = meta["adds_to_output"] and os.path.exists(self._path)
        elif os.path.exists(self._path):
            self._adds = os.path.exists(self._meta) or any(True for _ in self._read(self._path, self._table))
        if self._adds:
            check_made_with(self._meta, self._name, self._made_with)
            for row in self._read(self._path, self._table):
                earlier.add(row, newer=False)
            self._finished = earlier.count
        if begun:
            self._keep_partial(earlier, batch_size)
        return earlier if begun or self._adds else None

    def _keep_partial(self, earlier: EarlierRows[R], batch_size: int) -> None:
        """Cut the partial back to whole batches, and leave out rows that are to be made again."""
        rows = self._read(self._partial)
        with replacing(self._partial) as file:
            file.write(self._lines.header())
            while len(batch := list(itertools.islice(rows, batch_size))) == batch_size:
                for row in batch:
                    if self._is_unchanged(row) and not (self._retry_failed and row.status == "failed"):
                        file.write(self._lines.line(row))
                        earlier.add(row, newer=True)
        log.info("%s rows of an earlier run are kept", f"{earlier.count:,}")

    @staticmethod
    def _is_unchanged(row: R) -> bool:
        """Whether a row is of its file as it is now; what is no file is asked for when its turn comes."""
        path = file_shown_as(row.path)
        return not is_file_name(path) or signature(path) == (row.size, row.mtime_ns)

    def _read(self, name: str, table: Table[R] | None = None) -> Iterator[R]:
        """The rows of a table, or else of a file of lines."""
        try:
            yield from table.read(name) if table is not None else read_lines(name, self._lines)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"--resume: {name} has rows that cannot be read ({error}): run without it") from error
        except OSError as error:
            raise UsageError(f"--resume: {name} cannot be read: {error.strerror or error}") from error

    def _write_meta(self, content: Mapping[str, object]) -> None:
        write_meta(self._partial_meta, self._whole_meta(content))

    def _whole_meta(self, content: Mapping[str, object]) -> dict[str, object]:
        return {"made_with": self._made_with, "adds_to_output": self._adds, **content}

    def _others(self) -> list[range]:
        """The numbers of earlier rows that are not of this run's inputs, and stay."""
        numbers: list[range] = []
        for number, path in self._earlier.others() if self._earlier is not None else ():
            if not self._prune or is_there(path):
                _add(numbers, range(number, number + 1))
        return numbers

    def _write_all(self, file: BinaryIO, numbers: list[range], meta: Mapping[str, object]) -> None:
        rows = self._read(self._partial) if self._earlier is None else self._earlier.read(numbers)
        with reporting(self._name):
            self._row_format.write(file, rows, meta)


def check_made_with(
    meta: str, rows: str, now: Mapping[str, object], *, option: str = "--resume", cure: str = "run without it"
) -> dict[str, Any]:
    """What the file ``meta`` says of ``rows``, to which others may be added that are made with what there is ``now``.

    Args:
        meta: see `write_meta`.
        rows: the name of their file, for messages.
        now: see `OutputFile`.
        option: what asks for that.
        cure: what else to do.

    Raises:
        UsageError: they were made with something else, or it cannot be read.
    """
    try:
        with open(meta, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
        made_with, _ = dict(content["made_with"]), content["adds_to_output"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{option}: {meta}, which says what made {rows}, cannot be read: {cure}") from error
    check_same(made_with, rows, now, option=option, cure=cure)
    return content


def check_same(
    made_with: Mapping[str, object],
    rows: str,
    now: Mapping[str, object],
    *,
    option: str = "--resume",
    cure: str = "run without it",
) -> None:
    """Find out whether ``rows`` are made with what there is ``now``; for the arguments, see `check_made_with`.

    Raises:
        UsageError: they are not.
    """
    for name, value in now.items():
        if made_with.get(name) != value:
            raise UsageError(f"{option}: {rows} was made with {name} {made_with.get(name)}, not {value}: {cure}")


def write_meta(path: str, content: Mapping[str, object]) -> None:
    """Write what is said of rows.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(json.dumps(content, indent=2, default=str).encode("utf-8") + b"\n")


def read_lines(name: str, lines: Lines[R]) -> Iterator[R]:
    """The rows of a file of lines, all that are complete.

    Raises:
        OSError: it cannot be read.
        KeyError, TypeError, ValueError: it has no such rows.
    """
    with open(name, "rb") as file:
        found = lines.lines(file)
        if (header := lines.header()) and next(found, header) != header:
            raise ValueError("it has other columns")
        yield from map(lines.parse, found)


def write_empty(path: str, row_format: RowFormat[R]) -> None:
    """Write a file without rows, unless there are those of a run that can be resumed.

    Raises:
        OutputError: it cannot be written.
    """
    if os.path.exists(f"{os.path.realpath(path)}.partial"):
        return
    with replacing(path) as file:
        row_format.write(file, (), {})


def _add(numbers: list[range], number: range) -> None:
    """Add to runs of numbers, of which there are few where rows stand in the order of the inputs."""
    if numbers and numbers[-1].stop == number.start:
        numbers[-1] = range(numbers[-1].start, number.stop)
    else:
        numbers.append(number)
