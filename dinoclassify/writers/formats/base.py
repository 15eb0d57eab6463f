"""What a row format offers: rows written line by line (`Lines`), or all at once (`Table`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Generic, Protocol, TypeVar

from dinoclassify.types.prediction import Row

R = TypeVar("R", bound=Row)


class Lines(Protocol[R]):
    """A format that is written line by line."""

    def header(self) -> bytes:
        """Return what precedes the rows; empty if the format has no header."""

    def line(self, row: R, /) -> bytes:
        """Return one row as bytes, including its line end."""

    def lines(self, file: Iterable[bytes], /) -> Iterator[bytes]:
        """Yield the header, if any, and the complete rows of a file; skip an incomplete row at the end."""

    def parse(self, line: bytes, /) -> R:
        """Return the row in ``line``. Raises KeyError, TypeError or ValueError if it is not such a row."""


class Table(Protocol[R]):
    """A format that is complete only after its last row."""

    def write(self, file: BinaryIO, rows: Iterable[R], meta: Mapping[str, object], /) -> None:
        """Write all rows, then the run metadata ``meta`` if the format can store it."""

    def read(self, name: str, /) -> Iterator[R]:
        """Yield all rows. Raises KeyError, TypeError or ValueError if the file has no such rows."""


@dataclass(frozen=True, slots=True)
class RowFormat(Generic[R]):
    """A format, ready for rows of one shape."""

    name: str  # see `writers.formats.FORMATS`
    lines: Lines[R]  # the format of the journal and, without a `table`, of the output
    table: Table[R] | None = None  # the format of the output
    refuse_in_use: Callable[[str], None] = lambda _: None  # raises OutputError if another program uses that file
    read_meta: Callable[[str], object] = lambda _: None  # returns the run metadata stored in a file, or None

    def write(self, file: BinaryIO, rows: Iterable[R], meta: Mapping[str, object]) -> None:
        """Write a whole file. ``meta``, the run metadata, is read after the last row."""
        if self.table is not None:
            self.table.write(file, rows, meta)
        else:
            file.write(self.lines.header())
            file.writelines(map(self.lines.line, rows))

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes], meta: Mapping[str, object]) -> None:
        """Write a whole file from rows that are lines already."""
        if self.table is not None:
            self.table.write(file, map(self.lines.parse, lines), meta)
        else:
            file.write(self.lines.header())
            file.writelines(lines)

    def read(self, path: str) -> Iterator[R]:
        """Yield the rows of a file. Raises OSError, or KeyError, TypeError or ValueError for other rows."""
        if self.table is not None:
            yield from self.table.read(path)
        else:
            with open(path, "rb") as file:
                yield from map(self.lines.parse, without_header(self.lines, file))


def without_header(lines: Lines[R], file: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the complete rows of a file as lines. Raises ValueError if it has other columns."""
    rows, header = lines.lines(file), lines.header()
    if header and (first := next(rows, header)) != header:
        try:
            lines.parse(first)  # older versions wrote journals of updates without a header
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("it has other columns") from error
        yield first
    yield from rows
