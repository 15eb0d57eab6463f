"""The features of one image: a row like `Prediction`, with numbers in place of labels."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dinoclassify.types.prediction import Failure, Status

FeatureType = Literal["fp32", "fp16"]
Features = npt.NDArray[np.floating[Any]]  # float32 or float16

DTYPES: dict[FeatureType, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The result for one input: features (one dimension), or a failure, never both.

    ``size`` (bytes) and ``mtime_ns`` are those of the file that was read; None if it could not be opened.
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
