"""The rows of one output, from the first run that works on it to the last.

While a run goes on, its finished rows stand in a *journal* beside the output. At the end the output takes the rows of
the journal, together with those that earlier runs left in it, in the order of the inputs. Here is what all outputs have
in common: which rows are kept, which inputs still need one, and which rows are dropped. What differs is their place:
`OutputFile` or `OutputFolder`.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal

from dinoclassify.discovery.existence import is_gone
from dinoclassify.discovery.location import absolute_path, container_of, is_relative_file
from dinoclassify.errors import PruneError, UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.reader import signature_of
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Status
from dinoclassify.types.source import Source
from dinoclassify.writers.fingerprint import START_OVER, as_json, check_fingerprint, is_appended
from dinoclassify.writers.formats import Lines, R
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.previous_rows import PreviousRow, PreviousRows, Replaced

Change = Literal["kept", "new", "changed", "retried"]  # what becomes of an input in an update

_ASKED = 32  # disks and servers are asked for so many files at a time
_FEW = 20  # rows: of fewer, any number may be pruned
_HALF = Limit("50%", share=0.5)


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """What becomes of the rows of earlier runs.

    resume: keep the rows of inputs that have not changed.
    fresh: discard the rows of an interrupted run.
    retry_failed: with ``resume``, make failed rows again.
    prune: with ``resume``, drop the rows of inputs that are certainly gone.
    max_prune: the most rows that may be dropped; None for half of them.
    """

    resume: bool = False
    fresh: bool = False
    retry_failed: bool = False
    prune: bool = False
    max_prune: Limit | None = None


@dataclass(frozen=True, slots=True)
class Unnamed:
    """The rows of earlier runs whose inputs this run was not given.

    ``numbers`` and ``statuses`` are those of the rows that stay; ``pruned`` is the number of the others.
    """

    numbers: Sequence[range]
    statuses: Counter[str]
    pruned: int


class Output(Generic[R]):
    """The rows that earlier runs have made, and those that this one makes.

    Args:
        place: the output and its journal.
        lines: the format of a row in the journal.
        fingerprint: what the rows depend on, by name.
        options: what becomes of the rows of earlier runs.

    Raises:
        UsageError: there are rows of an interrupted run, and neither ``resume`` nor ``fresh`` is given; or rows to be
            kept have another fingerprint, or cannot be read.
        OutputError: the journal cannot be written.
    """

    def __init__(
        self,
        place: OutputFile[R] | OutputFolder[R],
        lines: Lines[R],
        fingerprint: Mapping[str, object],
        options: UpdateOptions,
    ) -> None:
        self._place, self._options = place, options
        self._folder = os.getcwd()
        self._previous = PreviousRows(lines, self._folder)
        self._finished = 0  # rows of the finished output
        self._updates = False  # whether rows are added to a finished output
        self._order: list[range] = []  # for each input the number of its row; new rows follow the previous ones
        self._new = 0
        fingerprint = as_json(fingerprint)
        place.recover()
        journal = None if options.fresh else self._find_interrupted(fingerprint)
        if options.resume:
            self._read_previous(fingerprint, journal)
        self.statuses = self._previous.statuses()  # of the rows of earlier runs
        self._meta: dict[str, object] = {
            "made_with": fingerprint,
            "adds_to_output": self._updates,
            "working_folder": self._folder,
        }
        if journal is not None:
            place.resume()
        else:
            place.begin(self._meta)

    def pending(
        self, sources: Iterable[Source], on_input: Callable[[Source, Change, PreviousRow | None], None]
    ) -> Iterator[Source]:
        """The inputs that need a row. Their rows are to be written in this order.

        ``on_input`` is told what becomes of each input and of its previous row. It runs in the thread that asks for the
        next input.
        """
        above = ""
        for source in sources:
            above = self._enter(source, above)
            row = self._previous.claim(source)
            change = self._change(row)
            if row is not None and change == "kept":
                _add(self._order, row.number)
            else:
                _add(self._order, self._previous.count + self._new)
                self._new += 1
            on_input(source, change, row)
            if change != "kept":
                yield source

    def write(self, row: R) -> None:
        """Write a row to the journal."""
        self._place.append(row)

    def unnamed(self, replaced: Iterable[str] = ()) -> Unnamed:
        """The rows whose inputs this run was not given, once it has been given all; ``prune`` drops some of them.

        Args:
            replaced: paths of new rows that are not those of inputs: members of an archive that a worker reads.

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
                _add(numbers, number)
                statuses[status] += 1
        total, limit = self.statuses.total(), self._options.max_prune
        if (limit or _HALF).exceeded(pruned, total) and (limit or total >= _FEW):
            raise PruneError(
                f"--prune would drop {pruned:,} of {count_of(total, 'row')}, whose files are gone; "
                f"{self._place.name} stays as it was: --max-prune {pruned} allows it"
            )
        return Unnamed(numbers, statuses, pruned)

    def finish(
        self, unnamed: Unnamed, meta: Mapping[str, object], made: Iterator[Iterable[bytes]] | None = None
    ) -> None:
        """Put the output in place.

        Args:
            unnamed: the rows that stand before those of this run.
            meta: goes with the rows.
            made: the lines of each input that was pending; None for the rows that `write` was given.

        Raises:
            OutputError: it cannot be written.
        """
        meta = {**self._meta, **meta}
        previous, order = self._previous, list(unnamed.numbers)
        for numbers in self._order:
            _add(order, numbers.start, numbers.stop)
        rows = previous.count + self._new
        in_order = order == ([range(rows)] if rows else []) and not previous.respelled
        if in_order and self._updates and rows == self._finished:
            self._place.publish_unchanged(meta)
        elif in_order and not self._updates and made is None:
            self._place.publish(None, meta)
        else:
            new = made if made is not None else ([line] for line in self._place.appended())
            self._place.publish(_in_order(order, previous, new), meta)

    def close(self) -> None:
        """Close the journal. It stays unless the output is finished."""
        self._place.close()

    def _find_interrupted(self, fingerprint: Mapping[str, object]) -> dict[str, Any] | None:
        """The metadata of the journal, if it has rows of an interrupted run: without ``resume`` that is an error."""
        place, resume = self._place, self._options.resume
        journal = place.journal_meta()
        if journal is None:
            return None
        found = "finished rows"
        try:
            with _readable(place.journal_name):
                count = sum(1 for _ in place.journal_rows())
            if not count:
                return None
            found = count_of(count, "finished row")
        except UsageError:  # they may have other columns, and then the fingerprint says which
            if resume:
                check_fingerprint(journal["made_with"], place.journal_name, fingerprint)
                raise
        if not resume:
            raise UsageError(
                f"{place.journal_name} has {found} of an interrupted run: --resume goes on, --fresh discards them"
            )
        check_fingerprint(journal["made_with"], place.journal_name, fingerprint)
        return journal

    def _read_previous(self, fingerprint: Mapping[str, object], journal: Mapping[str, Any] | None) -> None:
        place = self._place
        with _readable(place.name):
            finished = place.finished_meta() if journal is None or journal.get("adds_to_output") else None
        if finished is not None:
            check_fingerprint(finished["made_with"], place.name, fingerprint)
            folder = finished.get("working_folder") or self._folder  # a merged file may not say
            replaces: Replaced = "all" if is_appended(finished) else "changed"
            with _readable(place.name):
                for row in place.finished_rows():
                    self._previous.add(row, folder, replaces=replaces)
            self._finished, self._updates = self._previous.count, True
        if journal is not None:
            folder = journal.get("working_folder", self._folder)
            with _readable(place.journal_name):
                for row in place.journal_rows():
                    if folder != self._folder and is_relative_file(row.path):
                        raise UsageError(f"{place.journal_name} has paths that begin in {folder}: go there first (cd)")
                    self._previous.add(row, folder, replaces="remade")

    def _unclaimed(self) -> Iterator[tuple[int, Status, bool]]:
        """The number and the status of each row that no input of this run has, and whether ``prune`` drops it."""
        rows = self._previous.unclaimed()
        if not self._options.prune:
            yield from ((number, status, False) for number, _, status in rows)
            return
        with ThreadPoolExecutor(_ASKED) as pool:  # servers take their time to answer
            while batch := list(itertools.islice(rows, 8 * _ASKED)):
                paths = [absolute_path(path, self._folder) for _, path, _ in batch]
                for (number, _, status), gone in zip(batch, pool.map(is_gone, paths), strict=True):
                    yield number, status, gone

    def _enter(self, source: Source, before: str) -> str:
        """The archive, table or folder of a source.

        With the first source in it, and in each folder above it, the row goes that said why it could not be read.
        """
        container = container_of(source.path)
        above = container or os.path.dirname(source.path.rstrip("/"))
        if above != before and self._previous.count:
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
    """The folders that lead to a file or folder, the nearest first; prefixes of a store with and without a slash."""
    while (path := os.path.dirname(path.rstrip("/"))) and not path.endswith(("/", ":")):
        yield path
        if is_url(path):
            yield f"{path}/"


def _in_order(order: Iterable[range], previous: PreviousRows[R], new: Iterator[Iterable[bytes]]) -> Iterator[bytes]:
    """The lines of the rows with these numbers: previous ones, and behind them those of new inputs."""
    for numbers in order:
        border = min(max(numbers.start, previous.count), numbers.stop)
        yield from previous.read(range(numbers.start, border))
        yield from itertools.chain.from_iterable(itertools.islice(new, numbers.stop - border))


def _add(order: list[range], start: int, stop: int | None = None) -> None:
    """Add to runs of numbers, of which there are few where rows stand in the order of the inputs."""
    stop = start + 1 if stop is None else stop
    if order and order[-1].stop == start:
        order[-1] = range(order[-1].start, stop)
    else:
        order.append(range(start, stop))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what goes wrong with the rows in ``name`` into a message."""
    try:
        yield
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UsageError(f"{name} has rows that cannot be read ({error}): {START_OVER}") from error
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
