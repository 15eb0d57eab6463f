"""Rows -> sidecar files with the labels, beside the images or in a folder of their own.

Each format is one file here, with one function, and one entry in `FORMATS`. The images themselves are never written.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.results.companions import shot_finder
from dinoclassify.results.only import Only
from dinoclassify.results.reader import FindFile, current_file, why_stale
from dinoclassify.results.sidecars import json_file, text, xmp
from dinoclassify.results.sidecars.base import SidecarContent, SidecarError, one_line
from dinoclassify.results.sidecars.claims import Claims
from dinoclassify.results.sidecars.leftovers import leftover_remover
from dinoclassify.results.sidecars.shots import Job, one_for_each_shot
from dinoclassify.storage.atomic import FULL, as_output_errors, free_of_links, replacing
from dinoclassify.storage.missing import check_into
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Label, Prediction

# What makes the new content of a sidecar of the old, None where there is no file; the name is also the suffix.
FORMATS: Mapping[str, Callable[[bytes | None, SidecarContent], bytes | None]] = {
    "xmp": xmp.update,
    "txt": text.update,
    "json": json_file.update,
}

Action = Literal["write", "change", "remove", "delete", "keep", "shared", "nothing", "other", "leave"]
Trouble = Literal["gone", "changed", "clash", "unreadable", "unwritable"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What sidecars are written, and where.

    Args:
        made: a name in `FORMATS`.
        naming: full: x.jpg has x.jpg.xmp; stem: it has x.xmp.
        into: the folder below which they are; None for beside the images.
        prefix: the root of our labels in a tree of keywords.
        top_k: labels of an image, at most.
        min_score: labels with a lower score are left out.
        only: the labels that are written, to the sidecars of rows that have one of them; None for all.
        remove: take our labels out, rather than put them in.
        dry_run: only say what would be done.
        spared: files that are no sidecars, whatever they are called; free of links.
        find: gives the image of a row, see `results.reader.file_finder`.

    Raises:
        UsageError: the prefix is no word, or ``into`` no folder.
    """

    made: str = "xmp"
    naming: Literal["full", "stem"] = "full"
    into: str | None = None
    prefix: str = "dino"
    top_k: int = 1
    min_score: float = 0.0
    only: Only | None = None
    remove: bool = False
    dry_run: bool = False
    spared: frozenset[str] = frozenset()
    find: FindFile = current_file

    def __post_init__(self) -> None:
        if self.prefix != one_line(self.prefix) or not all(map(str.strip, self.prefix.split("|"))):
            raise UsageError(f"--prefix {self.prefix!r}: choose a word, or several with | between")
        if self.into is not None:
            check_into(self.into)


@dataclass(frozen=True, slots=True)
class TagResult:
    """What has become of the sidecar of a row.

    ``action``: it was made, changed, freed of our labels, deleted; it was as it should be; it has the labels of another
    image of the shot; there is none, nor needs to be; it is of none of the wanted labels; or it was left alone, with
    the ``trouble`` and a line for people.
    """

    sidecar: str
    action: Action
    trouble: Trouble | None = None
    message: str = ""


class _LeaveAlone(Exception):  # noqa: N818 - no error of the program
    """An image cannot be tagged; the run goes on."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble


def tag(rows: Iterable[Prediction], plan: Plan) -> Iterator[TagResult]:
    """Bring the sidecar of each row up to date, one after the other as the outcomes are asked for.

    Of an image that stands in several rows the last one counts.

    Raises:
        OutputError: the disk is full.
    """
    with closing(Claims()) as claims:
        remove_leftovers = leftover_remover()
        for job, counts in _jobs(rows, plan, claims):
            if not plan.dry_run and remove_leftovers(os.path.realpath(job.sidecar)):
                _remove_emptied(job.sidecar, plan)
            try:
                yield TagResult(job.sidecar, _tag(job, plan, claims) if counts else "shared")
            except _LeaveAlone as reason:
                yield TagResult(job.sidecar, "leave", reason.trouble, str(reason))


def _jobs(rows: Iterable[Prediction], plan: Plan, claims: Claims) -> Iterator[tuple[Job, bool]]:
    """What is to be done for each row, and whether its labels count."""
    images = ((row, plan.find(row)) for row in rows)
    jobs = (Job(row, image, sidecar_of(image, plan, named=row.path)) for row, image in images)
    if plan.naming == "stem" and not plan.remove:
        return one_for_each_shot(jobs, claims, shot_finder())
    return ((job, True) for job in jobs)


def sidecar_of(image: str, plan: Plan, *, named: str | None = None) -> str:
    """The name of an image's sidecar; below another folder it follows how the row has ``named`` the image."""
    if plan.into is not None and named is not None and ".." not in named.split("/"):
        image = file_shown_as(named)
    name = image if plan.naming == "full" else os.path.splitext(image)[0]
    if plan.into is None:
        return f"{name}.{plan.made}"
    name = os.path.abspath(name) if ".." in name.split("/") else os.path.normpath(name)
    return os.path.join(plan.into, f"{name.lstrip('/')}.{plan.made}")


def _tag(job: Job, plan: Plan, claims: Claims) -> Action:
    row, image, sidecar = job.row, job.image, job.sidecar
    if row.status == "failed" and not plan.remove:
        return "nothing"
    if plan.only is not None and not [rank for rank in _ranks(row, plan) if plan.only.wants(rank.label)]:
        return "other"
    if not plan.remove and (stale := why_stale(row, image)) is not None:
        raise _LeaveAlone("changed" if os.path.exists(image) else "gone", f"{row.path} {stale}")
    try:
        _check(sidecar, image, row.path, plan, claims)
        before = file_signature(sidecar)
        old = _read(sidecar)
        new = FORMATS[plan.made](old, _wanted(row, plan))
    except SidecarError as error:
        raise _LeaveAlone("unreadable", f"{sidecar} {error}: it is left alone") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        is_too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and plan.naming == "full"
        cure = ": --naming stem has a shorter one" if is_too_long else ""
        raise _LeaveAlone("unreadable", f"cannot read {sidecar}: {why}{cure}") from error
    if new == old:
        return "nothing" if old is None else "keep"
    if not plan.dry_run:
        if file_signature(sidecar) != before:
            raise _LeaveAlone("clash", f"{sidecar} is being written by another program: tag again")
        _put(sidecar, new)
        if new is None:
            _remove_emptied(sidecar, plan)
    if new is None:
        return "delete"
    return "write" if old is None else "remove" if plan.remove or row.status != "ok" else "change"


def _wanted(row: Prediction, plan: Plan) -> SidecarContent:
    tagged = row.status == "ok" and not plan.remove
    labels = tuple(rank for rank in _ranks(row, plan) if rank.score >= plan.min_score) if tagged else ()
    if plan.only is not None:
        labels = tuple(label for label in labels if plan.only.wants(label.label))
    return SidecarContent(labels, row.top if plan.remove else (), plan.prefix)


def _ranks(row: Prediction, plan: Plan) -> tuple[Label, ...]:
    """The labels of a row that count."""
    return row.top if plan.remove else row.top[: plan.top_k]


def _check(sidecar: str, image: str, named: str, plan: Plan, claims: Claims) -> None:
    """See that the sidecar is of no other image, and no other file."""
    real = os.path.realpath(sidecar)
    itself = free_of_links(image)  # a link is one
    if real in (itself, os.path.realpath(image)):
        raise _LeaveAlone("clash", f"{sidecar} would be written over the image")
    if real in plan.spared:
        raise _LeaveAlone("clash", f"{sidecar} is not a sidecar of {named}, and is left alone")
    if not real.lower().endswith(f".{plan.made}"):
        raise SidecarError(f"leads to {real}, which is called something else")
    owner = claims.claim(real, itself)
    if owner not in (None, itself) and not plan.remove:
        cure = "leave --naming stem out" if plan.naming == "stem" else "tag one of them by itself"
        raise _LeaveAlone("clash", f"{named} would have the same sidecar as {owner}, {sidecar}: {cure}")


def _read(sidecar: str) -> bytes | None:
    """The content of a sidecar, None if there is none."""
    try:
        status = os.stat(sidecar)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(sidecar):
            raise SidecarError("is a link to a file that is not there") from None
        return None
    if not stat.S_ISREG(status.st_mode):
        raise SidecarError("is no regular file")
    with open(sidecar, "rb") as file:
        return file.read()


def _put(sidecar: str, content: bytes | None) -> None:
    """Write a sidecar, or delete it, so that it is the old one or the new one at any time."""
    try:
        with as_output_errors(sidecar):
            if os.path.exists(sidecar) and not os.access(sidecar, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # it could be replaced all the same
            if content is None:
                _delete(sidecar)
                return
            os.makedirs(os.path.dirname(sidecar) or ".", exist_ok=True)
        with replacing(os.path.realpath(sidecar)) as file, as_output_errors(sidecar):
            file.write(content)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise
        raise _LeaveAlone("unwritable", str(error)) from error


def _remove_emptied(path: str, plan: Plan) -> None:
    """Remove the folders below that of ``--into`` in which a file that was deleted has been the only one."""
    if plan.into is None:
        return
    top, folder = os.path.join(os.path.realpath(plan.into), ""), os.path.realpath(os.path.dirname(path))
    with suppress(OSError):  # there is something in it
        while folder.startswith(top):
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def _delete(sidecar: str) -> None:
    os.unlink(os.path.realpath(sidecar))
    if os.path.islink(sidecar):
        os.unlink(sidecar)
