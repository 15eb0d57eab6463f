"""What is counted while rows are made: for the summary, the exit code and the limit of failures."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dinoclassify.errors import FailuresError
from dinoclassify.rows import Row, Status

ENOUGH = 100  # rows, from which on a share of them is judged


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many rows may fail: so many, or that share of them."""

    text: str
    count: int | None = None
    share: float | None = None

    def exceeded(self, failed: int, total: int) -> bool:
        """Whether ``failed`` of ``total`` rows are too many."""
        return failed > self.count if self.count is not None else failed > (self.share or 0) * total


class Tally:
    """Counts rows, by status and by error code, and the seconds that those of this run take."""

    def __init__(self, limit: FailureLimit | None) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.kept = 0
        self._lock = threading.Lock()  # rows that are kept may be counted in another thread
        self._limit = limit
        self._failed = 0  # of this run's
        self._started = time.monotonic()

    @property
    def total(self) -> int:
        """All rows so far."""
        return self.statuses.total()

    @property
    def made(self) -> int:
        """Those that this run has made."""
        return self.total - self.kept

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def keep(self, status: Status, error_code: str | None) -> None:
        """Count a row of an earlier run."""
        with self._lock:
            self.kept += 1
            self._count(status, error_code)

    def add(self, row: Row) -> None:
        """Count a row of this run.

        Raises:
            FailuresError: too many have failed.
        """
        with self._lock:
            self._count(row.status, row.failure.code if row.failure is not None else None)
        self._failed += row.status == "failed"
        if self._limit is not None and (self._limit.count is not None or self.made >= ENOUGH):
            self.judge()

    def add_all(self, statuses: Mapping[str, int], errors: Mapping[str, int]) -> None:
        """Count rows of this run by what became of them.

        Raises:
            FailuresError: too many have failed.
        """
        with self._lock:
            self.statuses.update(statuses)
            self.errors.update(errors)
        self._failed += statuses.get("failed", 0)
        if self._limit is not None and (self._limit.count is not None or self.made >= ENOUGH):
            self.judge()

    def judge(self) -> None:
        """Compare the failures with the limit.

        Raises:
            FailuresError: too many rows have failed.
        """
        with self._lock:
            made = self.made
        if self._limit is not None and self._limit.exceeded(self._failed, made):
            raise FailuresError(f"{self._failed:,} of {made:,} rows failed, --max-failures is {self._limit.text}")

    def counts(self) -> str:
        """How many rows there are of each status, and of each error code."""
        parts = [
            f"{self.statuses[status]:,} {status}" for status in ("ok", "uncertain", "failed") if self.statuses[status]
        ]
        errors = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common())
        return ", ".join(parts) + (f" ({errors})" if errors else "")

    def summary(self) -> str:
        """The counts in a line, with what was kept, and the speed."""
        kept = f", {self.kept:,} of them kept" if self.kept else ""
        speed = f", {self.made / self.seconds:.1f} images/s" if self.made else ""
        return f"{self.total:,} images: {self.counts()}{kept} in {self.seconds:.1f} s{speed}"

    def _count(self, status: Status, error_code: str | None) -> None:
        self.statuses[status] += 1
        if error_code is not None:
            self.errors[error_code] += 1
