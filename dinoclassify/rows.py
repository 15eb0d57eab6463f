"""The answer for one picture, and the columns it is written in.

This is the only place that knows the columns: every writer asks here.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
Value = str | int | float | None

# The columns in order, with the type each has where the format has types. Those of rank 1 stand alone;
# ranks 2 to K repeat them with _2 to _K behind the name.
_BEFORE: dict[str, type] = {"path": str, "status": str}
_RANK: dict[str, type] = {"label": str, "score": float, "index": int}
_AFTER: dict[str, type] = {"error_code": str, "error": str, "size": int, "mtime_ns": int}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a picture has no label: a code for programs and one line for people."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Label:
    """One class of the answer: its name, its index and its probability in [0, 1]."""

    label: str
    index: int
    score: float


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
        """The best label, or None if the picture failed."""
        return self.top[0].label if self.top else None

    @property
    def score(self) -> float | None:
        """The probability of the best label, or None if the picture failed."""
        return self.top[0].score if self.top else None

    @property
    def index(self) -> int | None:
        """The class index of the best label, or None if the picture failed."""
        return self.top[0].index if self.top else None


def columns(top_k: int) -> dict[str, type]:
    """The column names of a table with ``top_k`` ranks, in order, each with its Python type."""
    further = {f"{name}_{k}": kind for k in range(2, top_k + 1) for name, kind in _RANK.items()}
    return _BEFORE | _RANK | further | _AFTER


def record(prediction: Prediction, top_k: int) -> dict[str, Value]:
    """One flat row for the columns of ``columns(top_k)``; absent values are None."""
    row: dict[str, Value] = dict.fromkeys(columns(top_k))
    row.update(_common(prediction))
    for k, label in enumerate(prediction.top[:top_k], start=1):
        suffix = "" if k == 1 else f"_{k}"
        row.update({f"{name}{suffix}": value for name, value in _rank(label).items()})
    return row


def json_object(prediction: Prediction, top_k: int) -> Mapping[str, object]:
    """The row as an object for JSON: rank 1 under its own names and, with ``top_k`` > 1, all ranks in ``top``.

    A path that is not UTF-8 also stands, exactly, in ``path_b64``.
    """
    row: dict[str, object] = dict(record(prediction, top_k=1))
    if top_k > 1:
        row["top"] = [_rank(label) for label in prediction.top[:top_k]] or None
    if not _is_utf8(prediction.path):
        row["path_b64"] = base64.b64encode(os.fsencode(prediction.path)).decode("ascii")
    return row


def shown_path(path: str) -> str:
    r"""The path as valid Unicode: bytes that are not UTF-8 appear as ``\xNN``."""
    return path if _is_utf8(path) else os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _common(prediction: Prediction) -> dict[str, Value]:
    failure = prediction.failure
    return {
        "path": shown_path(prediction.path),
        "status": prediction.status,
        "error_code": failure.code if failure else None,
        "error": failure.message if failure else None,
        "size": prediction.size,
        "mtime_ns": prediction.mtime_ns,
    }


def _rank(label: Label) -> dict[str, Value]:
    return {"label": label.label, "score": float(f"{label.score:.6g}"), "index": label.index}


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
