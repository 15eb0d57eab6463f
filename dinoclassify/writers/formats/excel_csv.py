"""CSV that a spreadsheet makes no formula of: an apostrophe stands before what might be one.

That is at the start of a field, and after each semicolon, tab and line break in it: a spreadsheet that is set to
another separator begins a cell there. An apostrophe of the text in such a place gets another one before it, so that the
text can be read back exactly.
"""

import re

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import Value, record
from dinoclassify.writers.formats.csv import CSVLines, join, split

_START = r"(\A|[;\t\r\n])"  # of what may become a cell
_RISKY = re.compile(rf"{_START}(?=[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n'\"])")  # those of full width count in Japan
_GUARDED = re.compile(rf"{_START}'")


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, ExcelLines(top_k))


class ExcelLines(CSVLines):
    """Predictions as lines of CSV without formulas."""

    def line(self, row: Prediction) -> bytes:
        """One row."""
        return join(map(_guarded, record(row, self.top_k).values()), quoted=";\t")

    def parse(self, line: bytes) -> Prediction:
        """The prediction that a line was made of.

        Raises:
            KeyError, TypeError, ValueError: it is no such line.
        """
        return self._read([_GUARDED.sub(r"\1", field) for field in split(line)])


def _guarded(value: Value) -> Value:
    return _RISKY.sub(r"\1'", value) if isinstance(value, str) else value
