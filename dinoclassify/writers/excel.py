"""CSV that a spreadsheet makes no formula of: an apostrophe stands before what might be one.

It stands before text that begins with an apostrophe as well, so that it can be taken away again.
"""

from dinoclassify.rows import Prediction, Value, record
from dinoclassify.writers.csv import CSVLines, join, split

_FORMULA = tuple("=+-@\t\r\n'")


class ExcelLines(CSVLines):
    """Predictions as lines of CSV without formulas."""

    def line(self, row: Prediction) -> bytes:
        """One row."""
        return join(map(_marked, record(row, self.top_k).values()))

    def parse(self, line: bytes) -> Prediction:
        """The prediction that a line was made of.

        Raises:
            KeyError, TypeError, ValueError: it is no such line.
        """
        return self._read([field.removeprefix("'") for field in split(line)])


def _marked(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
