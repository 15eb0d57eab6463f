"""The images of one shot, such as a RAW and its JPEG, share the sidecar ``x.xmp``: which of their rows decides."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dinoclassify.results.companions import is_raw
from dinoclassify.results.sidecars.claims import Claims
from dinoclassify.storage.atomic import free_of_links
from dinoclassify.types.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Job:
    """A row, its image, and the sidecar of the image."""

    row: Prediction
    image: str
    sidecar: str


def one_for_each_shot(
    jobs: Iterable[Job], claims: Claims, is_of_shot: Callable[[str], bool]
) -> Iterator[tuple[Job, bool]]:
    """The jobs, each with whether its row decides on the sidecar.

    In a shot an ok row goes before others, then a row whose image is not a RAW, then the first row. Rows that a later
    row may still replace come last, and are in memory until then.
    """
    waiting: dict[str, Job] = {}
    for job in jobs:
        if job.row.status == "failed" or not is_of_shot(job.image):
            yield job, True
            continue
        sidecar, image = os.path.realpath(job.sidecar), free_of_links(job.image)
        if _rank(job) == _BEST:
            owner = claims.claim(sidecar, image)
            if (replaced := waiting.pop(sidecar, None)) is not None:
                yield replaced, False
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
