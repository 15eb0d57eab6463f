"""The columns of embeddings: the features, and the columns that every row has."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dinoclassify.storage.paths import exact_path, read_path
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure
from dinoclassify.writers.formats.columns import common


def json_object(embedding: Embedding) -> Mapping[str, object]:
    """Return an embedding as an object for JSON, with its features as base64 of little-endian numbers."""
    features = embedding.features
    packed = None if features is None else base64.b64encode(features.astype(features.dtype.newbyteorder("<")).tobytes())
    return dict(common(embedding)) | exact_path(embedding.path) | {"features": packed and packed.decode("ascii")}


def from_json(row: Mapping[str, Any], dtype: npt.DTypeLike) -> Embedding:
    """Return the embedding in an object of `json_object`.

    Raises:
        KeyError, TypeError, ValueError: it is not such an object.
    """
    if not isinstance(row, dict):
        raise TypeError("it is no object")
    packed = row["features"]
    features = None
    if packed is not None:
        features = np.frombuffer(base64.b64decode(packed), np.dtype(dtype).newbyteorder("<")).astype(dtype)
    return from_columns(row | {"features": features})


def from_columns(row: Mapping[str, Any]) -> Embedding:
    """Return the embedding in a row of a table, with its features as an array.

    Raises:
        KeyError, TypeError, ValueError: it is not such a row.
    """
    failure = Failure(row["error_code"], row["error"]) if row["error_code"] is not None else None
    if (row["features"] is None) != (failure is not None):
        raise ValueError("a row has features or an error")
    return Embedding(read_path(row), row["features"], failure, row["size"], row["mtime_ns"])
