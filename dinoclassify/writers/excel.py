"""CSV that a spreadsheet makes no formula of: an apostrophe stands before what might be one.

It stands before text that begins with an apostrophe as well, so that it can be taken away again.
"""

from dinoclassify.rows import Prediction, Value, from_record, record
from dinoclassify.writers.csv import header, join, lines, read_values, split

__all__ = ["header", "line", "lines", "parse"]

_FORMULA = tuple("=+-@\t\r\n'")


def line(prediction: Prediction, top_k: int) -> bytes:
    """One row."""
    return join(map(_marked, record(prediction, top_k).values()))


def parse(row: bytes, top_k: int) -> Prediction:
    """What `line` has made the row of.

    Raises:
        KeyError, TypeError, ValueError: it is no such row.
    """
    return from_record(read_values([field.removeprefix("'") for field in split(row)], top_k), top_k)


def _marked(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
