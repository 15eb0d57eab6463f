"""Images of one shot, a RAW with its JPEG, share the sidecar ``x.xmp``: which of their rows counts."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dinoclassify.results.companions import is_raw
from dinoclassify.results.sidecars.claims import Claims
from dinoclassify.storage.atomic import free_of_links
from dinoclassify.types.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Job:
    """A row, with the image that it is of and the sidecar that this has."""

    row: Prediction
    image: str
    sidecar: str


def one_for_each_shot(
    jobs: Iterable[Job], claims: Claims, is_of_shot: Callable[[str], bool]
) -> Iterator[tuple[Job, bool]]:
    """The same jobs, each with whether it counts.

    Of a shot a row that is ok counts before others, then one that is of no RAW, then the first. Rows that a later row
    may still replace come last. They are in memory until then.
    """
    waiting: dict[str, Job] = {}
    for job in jobs:
        if job.row.status == "failed" or not is_of_shot(job.image):
            yield job, True
            continue
        sidecar, image = os.path.realpath(job.sidecar), free_of_links(job.image)
        if _rank(job) == _BEST:
            owner = claims.claim(sidecar, image)
            if (outdone := waiting.pop(sidecar, None)) is not None:
                yield outdone, False
            yield job, owner in (None, image)
        elif (owner := claims.owner(sidecar)) is not None:
            yield job, owner == image
        else:
            first = waiting.setdefault(sidecar, job)
            is_better = _rank(job) < _rank(first) or free_of_links(first.image) == image
            if first is not job:
                waiting[sidecar] = job if is_better else first
                yield first if is_better else job, False
    yield from ((job, True) for job in waiting.values())


def _rank(job: Job) -> tuple[bool, bool]:
    return job.row.status != "ok", is_raw(job.image)


_BEST = (False, False)
