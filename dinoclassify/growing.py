"""A file of rows that grows: each is added as it comes, over many runs, and the file is whole lines at any time.

It is what `dinoclassify.outputs` makes of a run that has no end: there is no partial that could take its place.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Generic

from dinoclassify.errors import UsageError
from dinoclassify.files import append, reporting
from dinoclassify.outputs import check_made_with, write_meta
from dinoclassify.writers import Lines, R


class GrowingFile(Generic[R]):
    """The rows of a regular file, and those that are added.

    Args:
        path: the file, which may be there, as `predict` wrote it.
        lines: what rows are written in.
        made_with: see `dinoclassify.outputs.OutputFile`.

    Raises:
        UsageError: there are rows that were made with something else, or a run that is not finished.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str, lines: Lines[R], made_with: Mapping[str, object]) -> None:
        self._name, self._lines = path, lines
        path = os.path.realpath(path)  # a link stays one
        self._meta, self._made_with = f"{path}.meta.json", json.loads(json.dumps(made_with))
        if os.path.exists(f"{path}.partial"):
            raise UsageError(f"{self._name}.partial is of a run that was not finished: do that first, with --resume")
        if os.path.exists(path) and os.path.getsize(path) > len(lines.header()):
            cure = "name another --output"
            check_made_with(self._meta, self._name, self._made_with, option="--watch", cure=cure)
        else:
            self._write_meta({})
        with reporting(self._name):
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 - closed by `close`

    def read(self) -> Iterator[R]:
        """The rows that are there. To be read to the end before others are added, which cuts off a row that is torn.

        Raises:
            UsageError: they cannot be read.
        """
        size, header = 0, self._lines.header()
        try:
            with open(self._file.name, "rb") as file:
                for line in self._lines.lines(file):
                    if size or not header:
                        yield self._lines.parse(line)
                    elif line != header:
                        raise ValueError("it has other columns")
                    size += len(line)
                file.seek(size)
                if b"\n" in file.read():  # a run that was killed has left less than a line
                    raise ValueError("its end is within quotes")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self._name} has rows that cannot be read ({error}): name another --output") from error
        with reporting(self._name):
            os.ftruncate(self._file.fileno(), size)
            if not size:
                append(self._file.fileno(), header)

    def write(self, row: R) -> None:
        """Add a row: it is there when this returns."""
        with reporting(self._name):
            append(self._file.fileno(), self._lines.line(row))

    def finish(self, meta: Mapping[str, object]) -> None:
        """Have all rows on the disk, and write beside them what made them."""
        with reporting(self._name):
            os.fsync(self._file.fileno())
        self._write_meta(meta)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_meta(self, content: Mapping[str, object]) -> None:
        write_meta(self._meta, {"made_with": self._made_with, "adds_to_output": False, **content})
