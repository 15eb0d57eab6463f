"""Which image a sidecar belongs to, and which row decides on one that the images of a shot share, as ``x.xmp``."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dinoclassify.results.companions import is_raw
from dinoclassify.storage.atomic import resolve_folder
from dinoclassify.storage.scratch_table import ScratchTable
from dinoclassify.types.prediction import Prediction

_TABLE = "CREATE TABLE claims (sidecar BLOB PRIMARY KEY, image BLOB) WITHOUT ROWID;"


class Claims:
    """The sidecars of a run; each belongs to the first image that claims it. All paths are free of links.

    Raises:
        OutputError: there is no folder for temporary files, or it is full; any method may raise it.
    """

    def __init__(self) -> None:
        self._table = ScratchTable(_TABLE, "the names of the sidecars")

    def claim(self, sidecar: str, image: str) -> str | None:
        """Claim a sidecar; returns the image that claimed it before, maybe the same one, or None."""
        claim = os.fsencode(sidecar), os.fsencode(image)
        inserted = self._table.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", claim)
        return None if inserted.rowcount else self.owner(sidecar)

    def owner(self, sidecar: str) -> str | None:
        """The image that claimed the sidecar; None if none did."""
        row = self._table.first("SELECT image FROM claims WHERE sidecar = ?", (os.fsencode(sidecar),))
        return None if row is None else os.fsdecode(row[0])

    def close(self) -> None:
        """Drop the table."""
        self._table.close()


@dataclass(frozen=True, slots=True)
class SidecarJob:
    """A row, its image, and the sidecar of the image."""

    row: Prediction
    image: str
    sidecar: str


def one_for_each_shot(
    jobs: Iterable[SidecarJob], claims: Claims, is_of_shot: Callable[[str], bool]
) -> Iterator[tuple[SidecarJob, bool]]:
    """The jobs, each with whether its row decides on the sidecar.

    In a shot an ok row goes before others, then a row whose image is not a RAW, then the first row. Rows that a later
    row may still replace come last, and are in memory until then.
    """
    waiting: dict[str, SidecarJob] = {}
    for job in jobs:
        if job.row.status == "failed" or not is_of_shot(job.image):
            yield job, True
            continue
        sidecar, image = os.path.realpath(job.sidecar), resolve_folder(job.image)
        if not any(_rank(job)):
            owner = claims.claim(sidecar, image)
            if (replaced := waiting.pop(sidecar, None)) is not None:
                yield replaced, False
            yield job, owner in (None, image)
        elif (owner := claims.owner(sidecar)) is not None:
            yield job, owner == image
        else:
            first = waiting.setdefault(sidecar, job)
            is_better = _rank(job) < _rank(first) or resolve_folder(first.image) == image
            if first is not job:
                waiting[sidecar] = job if is_better else first
                yield first if is_better else job, False
    yield from ((job, True) for job in waiting.values())


def _rank(job: SidecarJob) -> tuple[bool, bool]:
    return job.row.status != "ok", is_raw(job.image)
