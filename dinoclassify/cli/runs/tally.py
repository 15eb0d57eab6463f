"""What is counted while rows are made: for the summary, the exit code and the limit of failures."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dinoclassify.discovery.filters import describe_passed_over
from dinoclassify.errors import FailuresError
from dinoclassify.messages import count_of
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Row, Status

if TYPE_CHECKING:
    from dinoclassify.writers.output import Change, Unnamed
    from dinoclassify.writers.previous_rows import PreviousRow

SOME_FAILED = 3  # the exit code of a run that has written its output, with failed rows
LONG = 10.0  # seconds to open a model: that is said, as it does not take so long every time
ENOUGH = 100  # rows, from which on a share of them is judged

_CHANGES = ("kept", "new", "changed", "retried", "pruned", "not named")


class Tally:
    """Counts of the rows of a run, by status, error code and what became of earlier rows; and its seconds.

    Args:
        limit: how many rows of the output may fail.
    """

    def __init__(self, limit: Limit | None = None) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()  # by `Change`, and pruned, and not named
        self.last_made: float | None = None  # when this run has made a row last, in seconds since 1970
        self.opening = 0.0  # seconds that it took to open the model
        self.passed_over: Counter[str] = Counter()  # files that are not images, by suffix
        self._lock = threading.Lock()  # kept rows are counted in another thread
        self._limit = limit
        self._earlier: Counter[str] = Counter()  # rows of earlier runs that this run has not come to yet
        self._started = time.monotonic()

    @property
    def total(self) -> int:
        """All rows of this run's inputs so far."""
        return self.statuses.total()

    @property
    def has_rows(self) -> bool:
        """Whether this run or an earlier one has made a row."""
        return bool(self.total + self._earlier.total())

    @property
    def kept(self) -> int:
        """Those that an earlier run has made."""
        return self.changes["kept"]

    @property
    def made(self) -> int:
        """Those that this run has made."""
        return self.total - self.kept

    @property
    def seconds(self) -> float:
        """Since the beginning; the loading of the model is left out."""
        return time.monotonic() - self._started

    def start(self, earlier: Mapping[str, int]) -> None:
        """The model is open: count seconds anew, and rows of earlier runs, by status, as part of the output."""
        self.opening, self._earlier, self._started = self.seconds, Counter(earlier), time.monotonic()

    def note_input(self, change: "Change", previous: "PreviousRow | None") -> None:
        """Count an input by what becomes of it and of its earlier row, which is kept or no longer counts."""
        with self._lock:
            if previous is not None:
                self._earlier[previous.status] -= 1
        if previous is not None and change == "kept":
            self.keep(previous.status, previous.error_code)
        else:
            self.changes[change] += 1

    def keep(self, status: Status, error_code: str | None) -> None:
        """Count a row of an earlier run that is kept."""
        with self._lock:
            self.changes["kept"] += 1
            self.statuses[status] += 1
            if error_code is not None:
                self.errors[error_code] += 1

    def drop(self, status: Status, error_code: str | None, *, kept: bool) -> None:
        """Count a row no more: a later one of the same image takes its place."""
        with self._lock:
            self.changes["kept"] -= kept
            self.statuses[status] -= 1
            if error_code is not None:
                self.errors[error_code] -= 1

    def snapshot(self) -> dict[str, object]:
        """The numbers of rows and of failures, and these by error code; any thread may ask."""
        with self._lock:
            return {
                "rows": self.total,
                "failed": self.statuses["failed"],
                "errors": {code: count for code, count in self.errors.items() if count},
            }

    def add(self, row: Row) -> None:
        """Count a row that this run has made.

        Raises:
            FailuresError: too many have failed.
        """
        failure = row.failure
        self.add_all({row.status: 1}, {failure.code: 1} if failure is not None else {})

    def add_all(self, statuses: Mapping[str, int], errors: Mapping[str, int]) -> None:
        """Count rows that this run has made.

        Raises:
            FailuresError: too many have failed.
        """
        with self._lock:
            self.statuses.update(statuses)
            self.errors.update(errors)
            self.last_made = time.time()
            failed, total = self.statuses["failed"], self.total + self._earlier.total()
        if self._limit is not None and (self._limit.count is not None or total >= ENOUGH):
            self._judge(failed, total)

    def add_unnamed(self, unnamed: "Unnamed") -> None:
        """Count the earlier rows of other inputs, of which some are dropped."""
        self._earlier = unnamed.statuses
        self.changes.update({"not named": unnamed.statuses.total(), "pruned": unnamed.pruned})

    def judge(self) -> None:
        """Compare the failed rows with the limit, when all rows of the output are known.

        Raises:
            FailuresError: too many rows have failed.
        """
        self._judge(self.statuses["failed"] + self._earlier["failed"], self.total + self._earlier.total())

    @property
    def exit_code(self) -> int:
        """0 if no row has failed, or no more than the user allows; else 3."""
        return SOME_FAILED if self.statuses["failed"] and self._limit is None else 0

    def counts(self) -> str:
        """How many rows there are of each status, and of each error code."""
        parts = [
            f"{self.statuses[status]:,} {status}" for status in ("ok", "uncertain", "failed") if self.statuses[status]
        ]
        errors = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common() if count)
        return ", ".join(parts) + (f" ({errors})" if errors else "")

    def summary(self) -> str:
        """The counts in a line, with what became of earlier rows, and the speed."""
        changes = [f"{self.changes[change]:,} {change}" for change in _CHANGES if self.changes[change]]
        told = f"; {', '.join(changes)}" if set(changes) - {f"{self.changes['new']:,} new"} else ""
        speed = f", {self.made / self.seconds:.1f} images/s" if self.made else ""
        over = f"; {text}" if (text := describe_passed_over(self.passed_over)) else ""
        model = f", after {self.opening:.0f} s to open the model" if self.opening >= LONG else ""
        return f"{count_of(self.total, 'image')}: {self.counts()}{told}{over} in {self.seconds:.1f} s{speed}{model}"

    def _judge(self, failed: int, total: int) -> None:
        if self._limit is not None and self._limit.exceeded(failed, total):
            raise FailuresError(f"{failed:,} of {count_of(total, 'row')} failed, --max-failures is {self._limit.text}")
