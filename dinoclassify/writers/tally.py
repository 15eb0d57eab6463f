"""Counts of the rows of a run, and the limit of failures."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dinoclassify.errors import FailuresError
from dinoclassify.messages import count_of
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Row, Status

if TYPE_CHECKING:
    from dinoclassify.writers.output import Change, UnmatchedRows
    from dinoclassify.writers.previous_rows import PreviousRow

_ENOUGH = 100  # rows; a percentage limit is not applied to fewer while the run goes on


class Tally:
    """Counts rows by status, by error code and by what became of earlier rows, and measures the time.

    ``limit``: how many rows of the output may fail; None for all.
    """

    def __init__(self, limit: Limit | None = None) -> None:
        self.limit = limit
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()  # by `Change`, and "pruned" and "not named"
        self.passed_over: Counter[str] = Counter()  # files that are not images, by suffix
        self.last_made: float | None = None  # when this run made its last row, in seconds since 1970
        self.opening = 0.0  # seconds it took to open the model
        self._lock = threading.Lock()  # kept rows are counted in another thread
        self._earlier: Counter[str] = Counter()  # rows of earlier runs whose inputs this run has not reached yet
        self._started = time.monotonic()

    @property
    def total(self) -> int:
        """The number of rows of this run's inputs so far."""
        return self.statuses.total()

    @property
    def has_rows(self) -> bool:
        """Whether this run or an earlier one has made a row."""
        return bool(self.total + self._earlier.total())

    @property
    def kept(self) -> int:
        """The number of rows that an earlier run made."""
        return self.changes["kept"]

    @property
    def made(self) -> int:
        """The number of rows that this run made."""
        return self.total - self.kept

    @property
    def seconds(self) -> float:
        """The seconds since the model was opened."""
        return time.monotonic() - self._started

    def start(self, earlier: Mapping[str, int]) -> None:
        """Restart the clock, now that the model is open. ``earlier``: rows of the output by status before this run."""
        self.opening, self._earlier, self._started = self.seconds, Counter(earlier), time.monotonic()

    def note_input(self, change: "Change", previous: "PreviousRow | None") -> None:
        """Count an input by what becomes of its earlier row, which is kept or no longer counts."""
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
        """Stop counting a row: a later one of the same image replaces it."""
        with self._lock:
            self.changes["kept"] -= kept
            self.statuses[status] -= 1
            if error_code is not None:
                self.errors[error_code] -= 1

    def snapshot(self) -> dict[str, object]:
        """Return the numbers of rows, of failures, and of failures by error code. Any thread may call it."""
        with self._lock:
            return {
                "rows": self.total,
                "failed": self.statuses["failed"],
                "errors": {code: count for code, count in self.errors.items() if count},
            }

    def add(self, row: Row) -> None:
        """Count a row that this run made. Raises FailuresError if too many have failed."""
        self.add_all({row.status: 1}, {row.failure.code: 1} if row.failure is not None else {})

    def add_all(self, statuses: Mapping[str, int], errors: Mapping[str, int]) -> None:
        """Count rows that this run made, by status and by error code. Raises FailuresError if too many have failed."""
        with self._lock:
            self.statuses.update(statuses)
            self.errors.update(errors)
            self.last_made = time.time()
            failed, total = self.statuses["failed"], self.total + self._earlier.total()
        if self.limit is not None and (self.limit.count is not None or total >= _ENOUGH):
            self._check_limit(failed, total)

    def add_unnamed(self, unmatched: "UnmatchedRows") -> None:
        """Count the earlier rows that no input of this run matches."""
        self._earlier = unmatched.statuses
        self.changes.update({"not named": unmatched.statuses.total(), "pruned": unmatched.pruned})

    def check_failures(self) -> None:
        """Raise FailuresError if too many rows have failed, now that all rows of the output are known."""
        self._check_limit(self.statuses["failed"] + self._earlier["failed"], self.total + self._earlier.total())

    def _check_limit(self, failed: int, total: int) -> None:
        if self.limit is not None and self.limit.exceeded(failed, total):
            raise FailuresError(f"{failed:,} of {count_of(total, 'row')} failed, --max-failures is {self.limit.text}")
