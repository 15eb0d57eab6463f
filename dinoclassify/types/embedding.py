"""The features of one picture: a row as `Prediction` is one, with numbers in the place of labels."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dinoclassify.types.prediction import Failure, Status, common, exact_path, read_path

FeatureType = Literal["fp32", "fp16"]
Features = npt.NDArray[np.floating[Any]]  # float32 or float16

DTYPES: dict[FeatureType, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What the model makes of one input: features (one dimension), or a failure, never both.

    ``size`` (bytes) and ``mtime_ns`` are those of the file as it was read; None where it could not be opened.
    """

    path: str
    features: Features | None = None
    failure: Failure | None = None
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def status(self) -> Status:
        """``ok`` or ``failed``."""
        return "ok" if self.failure is None else "failed"


def json_object(embedding: Embedding) -> Mapping[str, object]:
    """The embedding as an object for JSON: its features in base64, little-endian."""
    features = embedding.features
    packed = None if features is None else base64.b64encode(features.astype(features.dtype.newbyteorder("<")).tobytes())
    return dict(common(embedding)) | exact_path(embedding.path) | {"features": packed and packed.decode("ascii")}


def from_json(row: Mapping[str, Any], dtype: npt.DTypeLike) -> Embedding:
    """The embedding that `json_object` has made the row of.

    Raises:
        KeyError, TypeError, ValueError: no row can look so.
    """
    if not isinstance(row, dict):
        raise TypeError("it is no object")
    packed = row["features"]
    features = None
    if packed is not None:
        features = np.frombuffer(base64.b64decode(packed), np.dtype(dtype).newbyteorder("<")).astype(dtype)
    return from_columns(row | {"features": features})


def from_columns(row: Mapping[str, Any]) -> Embedding:
    """The embedding whose values stand in a row of a table, or of `json_object`.

    Raises:
        KeyError, TypeError, ValueError: no row can look so.
    """
    failure = Failure(row["error_code"], row["error"]) if row["error_code"] is not None else None
    if (row["features"] is None) != (failure is not None):
        raise ValueError("a row has features or an error")
    return Embedding(read_path(row), row["features"], failure, row["size"], row["mtime_ns"])
