"""Lines of another format, compressed by gzip. Equal rows give equal bytes."""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Generic, cast

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers import formats
from dinoclassify.writers.formats.base import Lines, R, RowFormat, without_header

_LEVEL = 6  # default of the gzip program; Python's, 9, takes twice the time to save 1 %


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format of lines ``NAME.gz`` for predictions with ``top_k`` ranks."""
    lines = formats.open_format(name.removesuffix(".gz"), top_k).lines
    return RowFormat(name, lines, GzipTable(lines))


@dataclass(frozen=True)
class GzipTable(Generic[R]):
    """A file of ``lines``, compressed; see `writers.formats.base.Table`."""

    plain: Lines[R]

    def write(self, file: BinaryIO, rows: Iterable[R], _meta: Mapping[str, object]) -> None:
        """Write a file; its gzip header has no file name and no time."""
        with (
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as compressed,
            io.BufferedWriter(cast(io.RawIOBase, compressed)) as buffer,
        ):
            buffer.write(self.plain.header())
            buffer.writelines(map(self.plain.line, rows))

    def read(self, name: str) -> Iterator[R]:
        """Yield the rows of a file; see `Table`. A damaged file raises ValueError."""
        try:
            with gzip.open(name) as file:
                yield from map(self.plain.parse, without_header(self.plain, file))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(str(error)) from error
