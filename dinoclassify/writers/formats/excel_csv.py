"""CSV in which a spreadsheet finds no formulas: text that could start one has an apostrophe before it.

A formula could start a field, or follow a semicolon, tab or line break in it: with another separator a spreadsheet
begins a new cell there. An apostrophe in such a place is doubled, so that the text can be read back exactly.
"""

import re

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import Value, record
from dinoclassify.writers.formats.csv import CSVLines, join, split

_START = r"(\A|[;\t\r\n])"  # of a possible cell
_RISKY = re.compile(rf"{_START}(?=[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n'\"])")  # also full-width signs, for Japan
_GUARDED = re.compile(rf"{_START}'")


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, ExcelLines(top_k))


class ExcelLines(CSVLines):
    """Predictions as lines of CSV without formulas."""

    def line(self, row: Prediction) -> bytes:
        """Return one row."""
        return join(map(_guarded, record(row, self.top_k).values()), quoted=";\t")

    def parse(self, line: bytes) -> Prediction:
        """Return the prediction in a line; see `Lines`."""
        return self._read([_GUARDED.sub(r"\1", field) for field in split(line)])


def _guarded(value: Value) -> Value:
    return _RISKY.sub(r"\1'", value) if isinstance(value, str) else value
