"""The output of a run that does not end: rows are added to the file itself, which has whole lines at any time."""

import os
from collections.abc import Iterator, Mapping
from typing import Generic

from dinoclassify.errors import UsageError
from dinoclassify.writers import Lines, R
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.fingerprint import META, PARTIAL, as_json, check_fingerprint, read_meta, write_meta

_CURE = "name another --output"


class LiveFile(Generic[R]):
    """A regular file of rows to which others are added.

    Args:
        path: the file, which an earlier run may have written.
        lines: the format of its rows.
        fingerprint: see `dinoclassify.writers.output.Output`.

    Raises:
        UsageError: it has rows with another fingerprint, or that cannot be read, or an unfinished run.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str, lines: Lines[R], fingerprint: Mapping[str, object]) -> None:
        real = os.path.realpath(path)  # a link stays one
        self._file, self._meta = AppendFile(real, path, lines), real + META
        self._fingerprint = as_json(fingerprint)
        if os.path.exists(real + PARTIAL):
            raise UsageError(f"{path}{PARTIAL} is of an interrupted run: finish that first, with --resume")
        if os.path.exists(real) and os.path.getsize(real) > len(lines.header()):
            before = read_meta(self._meta, path, cure=_CURE)["made_with"]
            check_fingerprint(before, path, self._fingerprint, option="--watch", cure=_CURE)
        try:
            self._file.open(check_end=True)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} has rows that cannot be read ({error}): {_CURE}") from error
        self.finish({})

    def read(self) -> Iterator[R]:
        """The rows so far.

        Raises:
            UsageError: they cannot be read.
        """
        try:
            yield from self._file.rows()
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self._file.name} has rows that cannot be read ({error}): {_CURE}") from error

    def write(self, row: R) -> None:
        """Add a row. It is in the file when this returns."""
        self._file.append(row)

    def finish(self, meta: Mapping[str, object]) -> None:
        """Force all rows onto the disk, and write the metadata beside them."""
        self._file.sync()
        made = {"made_with": self._fingerprint, "adds_to_output": False, "working_folder": os.getcwd()}
        write_meta(self._meta, {**made, **meta})

    def close(self) -> None:
        """Close the file."""
        self._file.close()
