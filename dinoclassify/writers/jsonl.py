"""JSON Lines: one strict JSON object a line, UTF-8."""

import json
from typing import BinaryIO

from dinoclassify.rows import Prediction, json_object


class JsonlWriter:
    """Each row is in the file when `write` returns."""

    def __init__(self, file: BinaryIO, top_k: int) -> None:
        self._file = file
        self._top_k = top_k

    def write(self, prediction: Prediction) -> None:
        """Write one line."""
        line = json.dumps(json_object(prediction, self._top_k), ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing is held back."""
