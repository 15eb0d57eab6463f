"""The answer for one image, and the columns it is written in.

This is the only place that knows the columns: every writer asks here.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

ErrorCode = Literal[
    "vanished",
    "unreadable",
    "not_image",
    "unsupported_format",
    "truncated",
    "too_large",
    "decode_error",
    "out_of_memory",
    "timeout",
    "worker_crashed",
    "nonfinite",
]
Status = Literal["ok", "uncertain", "failed"]


class Row(Protocol):
    """What every row has, whatever its answer is."""

    @property
    def path(self) -> str:
        """The input, as it was found."""

    @property
    def status(self) -> Status:
        """What has become of it."""

    @property
    def failure(self) -> "Failure | None":
        """Why it failed, if it did."""

    @property
    def size(self) -> int | None:
        """Of the file as it was read, in bytes."""

    @property
    def mtime_ns(self) -> int | None:
        """Of the file as it was read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no label: a code for programs and one line for people."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Label:
    """One class of the answer: its name, its index and its probability in [0, 1]."""

    label: str
    index: int
    score: float

    @property
    def rounded_score(self) -> float:
        """The score to six significant digits, as files hold it."""
        return float(f"{self.score:.6g}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one input: labels, best first, or a failure, never both.

    ``size`` (bytes) and ``mtime_ns`` are those of the file as it was read; None where it could not be opened.
    """

    path: str
    status: Status
    top: tuple[Label, ...] = ()
    failure: Failure | None = None
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def label(self) -> str | None:
        """The best label, or None if the image failed."""
        return self.top[0].label if self.top else None

    @property
    def score(self) -> float | None:
        """The probability of the best label, or None if the image failed."""
        return self.top[0].score if self.top else None

    @property
    def index(self) -> int | None:
        """The class index of the best label, or None if the image failed."""
        return self.top[0].index if self.top else None
