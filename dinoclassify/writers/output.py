"""The rows of one output, over all runs that work on it.

While a run goes on, its finished rows stand in a *journal* beside the output. At the end the output takes the rows of
the journal, and the rows of earlier runs that still count, in the order of the inputs. `Output` decides which earlier
rows stay, which inputs need a new row, and which rows are dropped; an `OutputFile` or `OutputFolder` stores them.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Literal

from dinoclassify.discovery.existence import is_gone
from dinoclassify.discovery.location import absolute_path, container_of
from dinoclassify.errors import PruneError
from dinoclassify.messages import count_of
from dinoclassify.storage.reader import signature_of
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Status
from dinoclassify.types.source import Source
from dinoclassify.writers.earlier_runs import Destination, EarlierRuns, read_earlier_runs
from dinoclassify.writers.fingerprint import as_json
from dinoclassify.writers.formats.base import Lines, R
from dinoclassify.writers.previous_rows import PreviousRow, PreviousRows

Change = Literal["kept", "new", "changed", "retried"]  # what happens to an input in an update

_CONCURRENT = 32  # files that disks and servers are asked for at a time
_FEW = 20  # rows: of fewer, any number may be pruned
_HALF = Limit("50%", share=0.5)


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """What happens to the rows of earlier runs."""

    resume: bool = False  # keep the rows of unchanged inputs
    fresh: bool = False  # discard the rows of an interrupted run
    retry_failed: bool = False  # with `resume`, make failed rows again
    prune: bool = False  # with `resume`, drop the rows of inputs that are certainly gone
    max_prune: Limit | None = None  # the most rows that may be dropped; None for half of them


@dataclass(frozen=True, slots=True)
class UnmatchedRows:
    """Earlier rows that no input of this run matches."""

    numbers: Sequence[range]  # of the rows that stay
    statuses: Counter[str]  # of these
    pruned: int  # rows that are dropped


class Output(Generic[R]):
    """The rows of earlier runs and of this one; `open` returns it. ``statuses`` counts those of earlier runs."""

    def __init__(
        self, destination: Destination[R], earlier: EarlierRuns[R], meta: Mapping[str, object], options: UpdateOptions
    ) -> None:
        self._destination, self._meta, self._options = destination, meta, options
        self._previous, self._finished = earlier.rows, earlier.finished
        self.statuses = self._previous.statuses()
        self._order: list[range] = []  # for each input the number of its row; new rows follow the previous ones
        self._new = 0  # rows

    @classmethod
    def open(
        cls, destination: Destination[R], lines: Lines[R], fingerprint: Mapping[str, object], options: UpdateOptions
    ) -> "Output[R]":
        """Read what earlier runs left, and begin the journal or continue that of an interrupted run.

        ``lines`` is the format of a row in the journal, ``fingerprint`` what the rows depend on, by name.

        Raises:
            UsageError: see `read_earlier_runs`.
            OutputError: the journal cannot be written.
        """
        fingerprint, folder = as_json(fingerprint), os.getcwd()
        destination.recover()
        earlier = read_earlier_runs(destination, lines, fingerprint, folder, resume=options.resume, fresh=options.fresh)
        meta = {"made_with": fingerprint, "adds_to_output": earlier.finished is not None, "working_folder": folder}
        output = cls(destination, earlier, meta, options)
        if earlier.interrupted:
            destination.journal.resume()
        else:
            destination.journal.begin(meta)
        return output

    def pending(
        self, sources: Iterable[Source], on_input: Callable[[Source, Change, PreviousRow | None], None]
    ) -> Iterator[Source]:
        """Yield the inputs that need a row. `write` takes their rows in this order.

        ``on_input`` is called for each input with its change and its previous row, in the thread that asks for the next
        input.
        """
        above = ""
        for source in sources:
            above = self._drop_container_failures(source, above)
            row = self._previous.claim(source)
            change = self._change(row)
            if row is not None and change == "kept":
                _append(self._order, row.number)
            else:
                _append(self._order, self._previous.count + self._new)
                self._new += 1
            on_input(source, change, row)
            if change != "kept":
                yield source

    def write(self, row: R) -> None:
        """Write a row to the journal."""
        self._destination.journal.append(row)

    def unmatched(self, replaced: Iterable[str] = ()) -> UnmatchedRows:
        """Return the rows of other inputs, once `pending` has yielded all; ``prune`` drops some of them.

        Args:
            replaced: paths of new rows that are not inputs: members of archives that other processes read.

        Raises:
            PruneError: more rows would be dropped than ``max_prune`` allows.
        """
        for path in replaced:
            self._previous.drop(path)
        numbers: list[range] = []
        statuses, pruned = Counter[str](), 0
        for number, status, gone in self._unclaimed():
            if gone:
                pruned += 1
            else:
                _append(numbers, number)
                statuses[status] += 1
        total, limit = self.statuses.total(), self._options.max_prune
        if (limit or _HALF).exceeded(pruned, total) and (limit or total >= _FEW):
            raise PruneError(
                f"--prune would drop {pruned:,} of {count_of(total, 'row')}, whose files are gone; "
                f"{self._destination.name} stays as it was: --max-prune {pruned} allows it"
            )
        return UnmatchedRows(numbers, statuses, pruned)

    def finish(
        self, unmatched: UnmatchedRows, meta: Mapping[str, object], new_lines: Iterator[Iterable[bytes]] | None = None
    ) -> None:
        """Put the output in place: the ``unmatched`` rows, then those of this run.

        ``new_lines`` are the lines of each pending input; None stands for the rows that `write` took.

        Raises:
            OutputError: it cannot be written.
        """
        meta = {**self._meta, **meta}
        previous, order = self._previous, list(unmatched.numbers)
        for numbers in self._order:
            _append(order, numbers.start, numbers.stop)
        rows = previous.count + self._new
        in_order = order == ([range(rows)] if rows else []) and not previous.respelled
        if in_order and self._finished == rows:
            self._destination.publish_unchanged(meta)
        elif in_order and self._finished is None and new_lines is None:
            self._destination.publish(None, meta)
        else:
            new = new_lines if new_lines is not None else ([line] for line in self._destination.journal.appended())
            self._destination.publish(_in_order(order, previous, new), meta)

    def close(self) -> None:
        """Close the journal. It stays unless the output is finished."""
        self._destination.journal.close()

    def _unclaimed(self) -> Iterator[tuple[int, Status, bool]]:
        """Yield the number and status of each row that no input has claimed, and whether ``prune`` drops it."""
        rows = self._previous.unclaimed()
        if not self._options.prune:
            yield from ((number, status, False) for number, _, status in rows)
            return
        with ThreadPoolExecutor(_CONCURRENT) as pool:  # servers take their time to answer
            while batch := list(itertools.islice(rows, 8 * _CONCURRENT)):
                paths = [absolute_path(path, self._previous.folder) for _, path, _ in batch]
                for (number, _, status), gone in zip(batch, pool.map(is_gone, paths), strict=True):
                    yield number, status, gone

    def _drop_container_failures(self, source: Source, before: str) -> str:
        """Drop the failed rows of the container and the folders of a source: they can be read now.

        Returns the container, or the folder of a source in none; ``before`` is that of the previous source, whose rows
        are dropped already. A failed row of the container as it is now stays.
        """
        if not self._previous.count:
            return before
        container = container_of(source.path)
        above = container or os.path.dirname(source.path.rstrip("/"))
        if above != before:
            if container:
                self._previous.drop_failed(container, signature_of(source)[1])
            for folder in _folders_above(container or source.path):
                if before == folder or before.startswith(f"{folder}/"):
                    break
                self._previous.drop_failed(folder, None)
        return above

    def _change(self, row: PreviousRow | None) -> Change:
        if row is None:
            return "new"
        if not row.unchanged:
            return "changed"
        return "retried" if self._options.retry_failed and row.status == "failed" else "kept"


def _folders_above(path: str) -> Iterator[str]:
    """Yield the folders that contain a path, the nearest first; prefixes of a store with and without a slash."""
    while (path := os.path.dirname(path.rstrip("/"))) and not path.endswith(("/", ":")):
        yield path
        if is_url(path):
            yield f"{path}/"


def _in_order(order: Iterable[range], previous: PreviousRows[R], new: Iterator[Iterable[bytes]]) -> Iterator[bytes]:
    """Yield the lines of the rows with these numbers: previous rows, then those of new inputs."""
    for numbers in order:
        border = min(max(numbers.start, previous.count), numbers.stop)
        yield from previous.read(range(numbers.start, border))
        yield from itertools.chain.from_iterable(itertools.islice(new, numbers.stop - border))


def _append(order: list[range], start: int, stop: int | None = None) -> None:
    """Append numbers to ranges of them. Rows in the order of the inputs need few ranges."""
    stop = start + 1 if stop is None else stop
    if order and order[-1].stop == start:
        order[-1] = range(order[-1].start, stop)
    else:
        order.append(range(start, stop))
