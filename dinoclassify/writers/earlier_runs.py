"""What earlier runs left of an output: its finished rows, and the journal of an interrupted run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from dinoclassify.discovery.location import is_relative_file
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.writers.fingerprint import START_OVER, check_fingerprint, is_appended
from dinoclassify.writers.formats.base import Lines, R
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.previous_rows import PreviousRows, Replaced

Destination: TypeAlias = OutputFile[R] | OutputFolder[R]


@dataclass(frozen=True, slots=True)
class EarlierRuns(Generic[R]):
    """The rows of earlier runs."""

    rows: PreviousRows[R]  # finished rows, then those of the journal
    finished: int | None  # number of finished rows; None if this run keeps no finished output
    interrupted: bool  # whether this run continues the journal of an interrupted one


def read_earlier_runs(
    destination: Destination[R],
    lines: Lines[R],
    fingerprint: Mapping[str, object],
    folder: str,
    *,
    resume: bool,
    fresh: bool,
) -> EarlierRuns[R]:
    """Read the rows that this run, in the working folder ``folder``, may keep: with ``resume`` all, otherwise none.

    ``fresh`` ignores the rows of an interrupted run, which are an error without it and ``resume``.

    Raises:
        UsageError: rows of an interrupted run would be lost, or rows to be kept have another fingerprint or cannot be
            read.
    """
    journal = None if fresh else _find_interrupted(destination, fingerprint, resume=resume)
    rows, finished = PreviousRows(lines, folder), None
    if resume:
        if journal is None or journal.get("adds_to_output"):
            finished = _read_finished(destination, fingerprint, folder, rows)
        if journal is not None:
            _read_journal(destination, journal, folder, rows)
    return EarlierRuns(rows, finished, journal is not None)


def _find_interrupted(
    destination: Destination[R], fingerprint: Mapping[str, object], *, resume: bool
) -> dict[str, Any] | None:
    """Return the metadata of the journal if it has rows of an interrupted run."""
    journal = destination.journal
    meta = journal.meta()
    if meta is None:
        return None
    rows = "finished rows"
    try:
        with _readable(journal.name):
            count = sum(1 for _ in journal.rows())
        if not count:
            return None
        rows = count_of(count, "finished row")
    except UsageError:  # if they have other columns, the fingerprint shows the reason
        if resume:
            check_fingerprint(meta["made_with"], journal.name, fingerprint)
            raise
    if not resume:
        raise UsageError(f"{journal.name} has {rows} of an interrupted run: --resume goes on, --fresh discards them")
    check_fingerprint(meta["made_with"], journal.name, fingerprint)
    return meta


def _read_finished(
    destination: Destination[R], fingerprint: Mapping[str, object], folder: str, rows: PreviousRows[R]
) -> int | None:
    """Add the rows of the finished output; return their number, None if there is no output."""
    with _readable(destination.name):
        meta = destination.finished_meta()
    if meta is None:
        return None
    check_fingerprint(meta["made_with"], destination.name, fingerprint)
    written_in = meta.get("working_folder") or folder  # a merged file may not record it
    replaces: Replaced = "all" if is_appended(meta) else "changed"
    with _readable(destination.name):
        for row in destination.finished_rows():
            rows.add(row, written_in, replaces=replaces)
    return rows.count


def _read_journal(destination: Destination[R], meta: Mapping[str, Any], folder: str, rows: PreviousRows[R]) -> None:
    journal, written_in = destination.journal, meta.get("working_folder", folder)
    with _readable(journal.name):
        for row in journal.rows():
            if written_in != folder and is_relative_file(row.path):
                raise UsageError(f"{journal.name} has paths relative to {written_in}: change to that folder first (cd)")
            rows.add(row, written_in, replaces="remade")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise errors from reading the rows in ``name`` as UsageError."""
    try:
        yield
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UsageError(f"{name} has rows that cannot be read ({error}): {START_OVER}") from error
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
