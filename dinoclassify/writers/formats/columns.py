"""The columns of predictions, and how a row becomes a record."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from dinoclassify.storage.paths import exact_path, read_path, shown_path
from dinoclassify.types.prediction import ErrorCode, Failure, Label, Prediction, Row, Status

Value = str | int | float | None
# The columns in order, with their types. The columns of ranks 2 to K repeat those of rank 1 with the suffixes _2 to _K.
_BEFORE: dict[str, type] = {"path": str, "status": str}
_RANK: dict[str, type] = {"label": str, "score": float, "index": int}
_AFTER: dict[str, type] = {"error_code": str, "error": str, "size": int, "mtime_ns": int}


def columns(top_k: int) -> dict[str, type]:
    """Return the columns of a table with ``top_k`` ranks, in order: their names and Python types."""
    further = {f"{name}_{k}": kind for k in range(2, top_k + 1) for name, kind in _RANK.items()}
    return _BEFORE | _RANK | further | _AFTER


def record(prediction: Prediction, top_k: int) -> dict[str, Value]:
    """Return a prediction as a flat row with ``columns(top_k)``; absent values are None."""
    row: dict[str, Value] = dict.fromkeys(columns(top_k))
    row.update(common(prediction))
    for k, label in enumerate(prediction.top[:top_k], start=1):
        suffix = "" if k == 1 else f"_{k}"
        row.update({f"{name}{suffix}": value for name, value in _rank(label).items()})
    return row


def json_object(prediction: Prediction, top_k: int) -> Mapping[str, object]:
    """Return a prediction as an object for JSON; with ``top_k`` > 1 its ``top`` has all ranks.

    A path that is not UTF-8 is also given exactly, in ``path_b64``.
    """
    row: dict[str, object] = dict(record(prediction, top_k=1))
    if top_k > 1:
        row["top"] = [_rank(label) for label in prediction.top[:top_k]] or None
    return row | exact_path(prediction.path)


def from_record(row: Mapping[str, Value], top_k: int) -> Prediction:
    """Return the prediction in a row of `record`; its path is as `shown_path` returns it.

    Raises:
        KeyError, TypeError, ValueError: it is not such a row.
    """
    ranks = [{name: row[name if k == 1 else f"{name}_{k}"] for name in _RANK} for k in range(1, top_k + 1)]
    return _prediction(row, ranks)


def from_json(row: Mapping[str, Any]) -> Prediction:
    """Return the prediction in an object of `json_object`, with its exact path.

    Raises:
        KeyError, TypeError, ValueError: it is not such an object.
    """
    if not isinstance(row, dict):
        raise TypeError("it is no object")
    times = {name: _as_whole(row[name]) for name in ("size", "mtime_ns")}
    return _prediction({**row, **times}, row.get("top") or [row])


def common(row: Row) -> dict[str, Value]:
    """Return the values of the columns that every row has."""
    return {
        "path": shown_path(row.path),
        "status": row.status,
        "error_code": row.failure.code if row.failure else None,
        "error": row.failure.message if row.failure else None,
        "size": row.size,
        "mtime_ns": row.mtime_ns,
    }


def _prediction(row: Mapping[str, Any], ranks: Sequence[Mapping[str, Any]]) -> Prediction:
    status = row["status"]
    if status not in get_args(Status):
        raise ValueError(f"there is no status {status}")
    top = tuple(_label(rank) for rank in ranks if rank["index"] is not None)
    failure = Failure(row["error_code"], row["error"]) if row["error_code"] is not None else None
    if bool(top) == (failure is not None) or (status == "failed") == bool(top):
        raise ValueError("a row has a label or, if it failed, an error")
    if not all(value is None or isinstance(value, int) for value in (row["size"], row["mtime_ns"])):
        raise TypeError(f"no file is so: size {row['size']}, mtime_ns {row['mtime_ns']}")
    if failure is not None and not (failure.code in get_args(ErrorCode) and isinstance(failure.message, str)):
        raise ValueError(f"there is no error {failure.code}: {failure.message}")
    path = read_path(row)
    if "\0" in path:
        raise ValueError("no path has a NUL")
    os.fsencode(path)  # raises ValueError if it cannot be a path
    return Prediction(path, status, top, failure, row["size"], row["mtime_ns"])


def _label(rank: Mapping[str, Any]) -> Label:
    label, index, score = rank["label"], rank["index"], rank["score"]
    if not (isinstance(label, str) and isinstance(index, int) and isinstance(score, int | float)):
        raise TypeError(f"no label is so: {label}, {index}, {score}")
    if index < 0 or not 0 <= score <= 1:
        raise ValueError(f"no label is so: {label}, {index}, {score}")
    return Label(label, index, score)


def _rank(label: Label) -> dict[str, Value]:
    return {"label": label.label, "score": label.rounded_score, "index": label.index}


def _as_whole(value: Any) -> Any:
    """Return a whole number that jq wrote as ``1.8e+18`` as an int, and any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
