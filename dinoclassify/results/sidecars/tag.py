"""Rows -> sidecar files with the labels, beside the images or in a folder of their own; images are never written."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.results.companions import shot_finder
from dinoclassify.results.image_file import FindFile, current_file, why_stale
from dinoclassify.results.only import Only
from dinoclassify.results.sidecars.formats import SidecarFormat, update_of
from dinoclassify.results.sidecars.formats.base import SidecarContent, SidecarError, one_line
from dinoclassify.results.sidecars.leftovers import leftover_remover
from dinoclassify.results.sidecars.shots import Claims, SidecarJob, one_for_each_shot
from dinoclassify.storage.atomic import FULL, as_output_errors, replacing, resolve_folder
from dinoclassify.storage.missing import check_into
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Label, Prediction

Action = Literal["write", "change", "remove", "delete", "keep", "shared", "nothing", "other", "leave"]
Trouble = Literal["gone", "changed", "clash", "unreadable", "unwritable"]


@dataclass(frozen=True, slots=True)
class TagOptions:
    """Which sidecars are written, where, and with what.

    Args:
        format: the format of the sidecars; its name is also their suffix.
        naming: full: x.jpg has x.jpg.xmp; stem: it has x.xmp.
        into: the folder below which sidecars are written; None for beside the images.
        prefix: the root of our labels in a tree of keywords.
        top_k: the most labels of an image that are written; None for all of its row.
        min_score: labels with a lower score are left out.
        only: the labels that are written; other rows keep their sidecars. None for all.
        remove: remove our labels rather than write them.
        spared: paths, free of links, that are never written although they are named like sidecars.

    Raises:
        UsageError: ``prefix`` has an empty word, or ``into`` is not a folder.
    """

    format: SidecarFormat = "xmp"
    naming: Literal["full", "stem"] = "full"
    into: str | None = None
    prefix: str = "dino"
    top_k: int | None = 1
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
    """What became of the sidecar of a row.

    ``action`` is one of:

    - ``write``, ``change``, ``delete``; ``remove``: our labels were removed from it.
    - ``keep``: it was up to date.
    - ``shared``: it has the labels of another image of the shot.
    - ``nothing``: it does not exist and is not needed.
    - ``other``: the row has none of the selected labels.
    - ``leave``: it was left alone, because of the ``trouble`` that ``message`` describes.
    """

    sidecar: str
    action: Action
    trouble: Trouble | None = None
    message: str = ""


class _LeaveAlone(Exception):  # noqa: N818 - it ends no run
    """A sidecar is left alone; the run goes on."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble


def tag(rows: Iterable[Prediction], options: TagOptions) -> Iterator[TagResult]:
    """Update the sidecar of each row; yields what became of it. The last row of an image wins.

    Raises:
        OutputError: the disk is full.
    """
    with closing(Claims()) as claims:
        remove_leftovers = leftover_remover()
        for job, decides in _jobs(rows, options, claims):
            if not options.dry_run and remove_leftovers(os.path.realpath(job.sidecar)):
                _remove_emptied(job.sidecar, options)
            try:
                yield TagResult(job.sidecar, _tag(job, options, claims) if decides else "shared")
            except _LeaveAlone as reason:
                yield TagResult(job.sidecar, "leave", reason.trouble, str(reason))


def _jobs(rows: Iterable[Prediction], options: TagOptions, claims: Claims) -> Iterator[tuple[SidecarJob, bool]]:
    """The rows with their images and sidecars, each with whether it decides on its sidecar."""
    images = ((row, options.find(row)) for row in rows)
    jobs = (SidecarJob(row, image, sidecar_of(image, options, named=row.path)) for row, image in images)
    if options.naming == "stem" and not options.remove:
        return one_for_each_shot(jobs, claims, shot_finder())
    return ((job, True) for job in jobs)


def sidecar_of(image: str, options: TagOptions, *, named: str | None = None) -> str:
    """The path of an image's sidecar; below another folder it follows the path ``named`` that the row has."""
    if options.into is not None and named is not None and ".." not in named.split("/"):
        image = file_shown_as(named)
    name = image if options.naming == "full" else os.path.splitext(image)[0]
    if options.into is None:
        return f"{name}.{options.format}"
    name = os.path.abspath(name) if ".." in name.split("/") else os.path.normpath(name)
    return os.path.join(options.into, f"{name.lstrip('/')}.{options.format}")


def _tag(job: SidecarJob, options: TagOptions, claims: Claims) -> Action:
    """Update one sidecar, and return what was done; raises _LeaveAlone, or OutputError if the disk is full."""
    row, image, sidecar = job.row, job.image, job.sidecar
    if row.status == "failed" and not options.remove:
        return "nothing"
    if options.only is not None and not [rank for rank in _ranks(row, options) if options.only.wants(rank.label)]:
        return "other"
    if not options.remove and (stale := why_stale(row, image)) is not None:
        raise _LeaveAlone("changed" if os.path.exists(image) else "gone", f"{row.path} {stale}")
    try:
        _check(sidecar, image, row.path, options, claims)
        before = file_signature(sidecar)
        old = _read(sidecar)
        new = update_of(options.format)(old, _content(row, options))
    except SidecarError as error:
        raise _LeaveAlone("unreadable", f"{sidecar} {error}: it is left alone") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        is_too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and options.naming == "full"
        cure = ": --naming stem has a shorter one" if is_too_long else ""
        raise _LeaveAlone("unreadable", f"cannot read {sidecar}: {why}{cure}") from error
    if new == old:
        return "nothing" if old is None else "keep"
    if not options.dry_run:
        if file_signature(sidecar) != before:
            raise _LeaveAlone("clash", f"{sidecar} is being written by another program: tag again")
        _put(sidecar, new)
        if new is None:
            _remove_emptied(sidecar, options)
    if new is None:
        return "delete"
    return "write" if old is None else "remove" if options.remove or row.status != "ok" else "change"


def _content(row: Prediction, options: TagOptions) -> SidecarContent:
    has_labels = row.status == "ok" and not options.remove
    labels = tuple(rank for rank in _ranks(row, options) if rank.score >= options.min_score) if has_labels else ()
    if options.only is not None:
        labels = tuple(label for label in labels if options.only.wants(label.label))
    return SidecarContent(labels, row.top if options.remove else (), options.prefix)


def _ranks(row: Prediction, options: TagOptions) -> tuple[Label, ...]:
    """The labels of a row that may be written, or removed."""
    return row.top if options.remove else row.top[: options.top_k]


def _check(sidecar: str, image: str, named: str, options: TagOptions, claims: Claims) -> None:
    """Check that the sidecar belongs to this image only, and is not another kind of file."""
    real = os.path.realpath(sidecar)
    itself = resolve_folder(image)  # a link is an image of its own
    if real in (itself, os.path.realpath(image)):
        raise _LeaveAlone("clash", f"{sidecar} would be written over the image")
    if real in options.spared:
        raise _LeaveAlone("clash", f"{sidecar} is not a sidecar of {named}, and is left alone")
    if not real.lower().endswith(f".{options.format}"):
        raise SidecarError(f"leads to {real}, which is called something else")
    owner = claims.claim(real, itself)
    if owner not in (None, itself) and not options.remove:
        cure = "leave --naming stem out" if options.naming == "stem" else "tag one of them by itself"
        raise _LeaveAlone("clash", f"{named} would have the same sidecar as {owner}, {sidecar}: {cure}")


def _read(sidecar: str) -> bytes | None:
    """The content of a sidecar; None if it does not exist."""
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
    """Replace a sidecar, or delete it if the content is None, in one step."""
    try:
        with as_output_errors(sidecar):
            if os.path.exists(sidecar) and not os.access(sidecar, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # a rename would replace it nevertheless
            if content is None:
                os.unlink(os.path.realpath(sidecar))
                if os.path.islink(sidecar):
                    os.unlink(sidecar)
                return
            os.makedirs(os.path.dirname(sidecar) or ".", exist_ok=True)
        with replacing(os.path.realpath(sidecar)) as file, as_output_errors(sidecar):
            file.write(content)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise
        raise _LeaveAlone("unwritable", str(error)) from error


def _remove_emptied(path: str, options: TagOptions) -> None:
    """Remove the folders below ``--into`` that are empty once a file is deleted."""
    if options.into is None:
        return
    top, folder = os.path.join(os.path.realpath(options.into), ""), os.path.realpath(os.path.dirname(path))
    with suppress(OSError):  # a folder is not empty
        while folder.startswith(top):
            os.rmdir(folder)
            folder = os.path.dirname(folder)
