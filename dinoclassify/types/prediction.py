"""The result for one image: its labels, or why it failed."""

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

LIKELY = 0.5  # the score from which a label of a multi-label model is likely, where nobody says otherwise


class Row(Protocol):
    """What predictions and embeddings have in common."""

    @property
    def path(self) -> str:
        """The path of the input."""

    @property
    def status(self) -> Status:
        """``ok``, ``uncertain`` or ``failed``."""

    @property
    def failure(self) -> "Failure | None":
        """Why the image failed; None if it did not."""

    @property
    def size(self) -> int | None:
        """The size in bytes of the file that was read."""

    @property
    def mtime_ns(self) -> int | None:
        """The modification time of the file that was read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no label: a code for programs and one line for people."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Label:
    """One predicted class: its name, its index and its probability in [0, 1]."""

    label: str
    index: int
    score: float

    @property
    def rounded_score(self) -> float:
        """The score to six significant digits, as files hold it."""
        return float(f"{self.score:.6g}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one input: labels, best first, or a failure, never both.

    Rows of a single-label model have the same number of labels; those of a multi-label model as many as are likely.
    ``size`` (bytes) and ``mtime_ns`` are those of the file that was read; None if it could not be opened.
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
