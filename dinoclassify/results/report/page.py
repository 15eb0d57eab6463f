"""Rows -> one self-contained HTML page, with its data, styles, script and thumbnails.

Untrusted text (paths, labels, error messages, run metadata) reaches the page in two ways only: through the template,
which escapes it, and as JSON, which the script turns into text nodes. In addition, the page's content security policy
allows only its own style and script, by their hashes, and no requests.
"""

import base64
import hashlib
import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import BinaryIO

from jinja2 import Environment, StrictUndefined

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.results.image_file import FindFile, current_file, why_stale
from dinoclassify.results.report.data import STATUSES, as_columns, as_json, url_of, visible
from dinoclassify.results.report.provenance import provenance
from dinoclassify.storage.atomic import as_output_errors, close_checked, is_regular, open_in_place, replacing
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

STDOUT = "-"

Thumbnails = Iterator[bytes | None]
Progress = Callable[[Thumbnails, int], Thumbnails]

_SCRIPTS = ("page.js", "overview.js", "images.js", "events.js")  # concatenated in this order
_SHOWN = 6  # linked images of a label, if none is embedded
_SOURCES = {False: "data:", True: "data: file: 'self'"}  # allowed image sources, by whether images are linked


@dataclass(frozen=True, slots=True)
class WrittenPage:
    """The number of rows and of embedded thumbnails, and the size in bytes, of a page."""

    rows: int
    thumbnails: int
    size: int


def write_page(
    output: str,
    rows: Iterable[Prediction],
    *,
    title: str,
    meta: Mapping[str, object],
    group: Callable[[Prediction], str] | None = None,
    thumbnails: int = _SHOWN,
    link: bool = False,
    find: FindFile = current_file,
    progress: Progress = lambda thumbnails, _: thumbnails,
) -> WrittenPage:
    """Write the page of all rows; the same rows, images and metadata give the same bytes.

    ``output`` is a file, written whole or not at all; `STDOUT`; or a device or a pipe. ``rows`` are read to the end
    before anything is written, and ``meta`` is their run metadata, empty if there is none. ``group`` returns the group
    of a row that has a label. Of each label, the ``thumbnails`` images with the highest scores are embedded; ``link``
    shows the others by links to their files. ``progress`` wraps the thumbnails as they are made, given their number.

    Raises:
        UsageError: the page would overwrite one of the images.
        OutputError: the page cannot be written.
        WorkerError: the decoding processes cannot be started, or keep dying.
    """
    rows = list(rows)
    images = {number: find(row) for number, row in enumerate(rows)}
    _check_images(output, images.values())
    with _open(output) as file:
        jpegs = _thumbnails(rows, images, thumbnails, progress)
        folder = os.path.dirname(output) if is_regular(output) else ""
        links = _links(rows, images, folder) if link else {}
        columns = as_columns(rows, group, links, list(jpegs), thumbnails or _SHOWN)
        page = _render(title, _figures(rows), meta, as_json(columns), jpegs, link=link)
        with as_output_errors(output):
            file.write(page)
    return WrittenPage(len(rows), len(jpegs), len(page))


def most_certain(rows: Sequence[Prediction], most: int) -> list[int]:
    """The indices of the rows with one of the ``most`` highest scores of their label, ascending."""
    by_class: defaultdict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.top:
            by_class[row.top[0].label, row.top[0].index].append((-row.top[0].score, number))
    return sorted(number for ranking in by_class.values() for _, number in sorted(ranking)[:most])


def _check_images(output: str, images: Iterable[str]) -> None:
    if not os.path.isfile(output):
        return
    if any(os.path.isfile(image) and os.path.samefile(image, output) for image in images):
        raise UsageError(f"{output} is also one of the images: choose another name")


@contextmanager
def _open(output: str) -> Iterator[BinaryIO]:
    if output == STDOUT:
        if sys.stdout is None:
            raise OutputError("stdout is closed: name a file with --output")
        yield sys.stdout.buffer
        with as_output_errors("stdout"):
            sys.stdout.buffer.flush()
    elif is_regular(output):
        with replacing(os.path.realpath(output)) as file:  # a symbolic link stays a link
            yield file
    else:
        with as_output_errors(output):
            file = open_in_place(output, "wb")  # closed below, to tell its errors from those of the block
        with close_checked(file, output):
            yield file


def _thumbnails(
    rows: Sequence[Prediction], images: Mapping[int, str], most: int, progress: Progress
) -> dict[int, bytes]:
    """The JPEG of each chosen image, by row, unless the image has changed or cannot be decoded."""
    chosen = most_certain(rows, most)
    unchanged = {number: images[number] for number in chosen if why_stale(rows[number], images[number]) is None}
    jpegs: dict[int, bytes] = {}
    if unchanged:
        from dinoclassify.results.report.thumbnails import make_thumbnails  # imports torch

        thumbnails = progress(make_thumbnails(list(unchanged.values())), len(unchanged))
        jpegs = {number: jpeg for number, jpeg in zip(unchanged, thumbnails, strict=True) if jpeg is not None}
    if missing := len(chosen) - len(jpegs):
        log.warning(
            "%s of %s thumbnails are missing: their images are gone, changed, damaged, or no files of this machine",
            f"{missing:,}",
            f"{len(chosen):,}",
        )
    return jpegs


def _links(rows: Sequence[Prediction], images: Mapping[int, str], folder: str) -> dict[int, str]:
    """The URLs of images that have a label, by row: a browser never gets a file that our decoders refused."""
    urls = ((number, url_of(images[number], folder or ".")) for number, row in enumerate(rows) if row.top)
    return {number: url for number, url in urls if url is not None}


def _figures(rows: Sequence[Prediction]) -> list[tuple[str, str]]:
    statuses = Counter(row.status for row in rows)
    labels = {(row.label, row.index) for row in rows if row.top}
    by_status = [(status, statuses[status]) for status in STATUSES]
    return [(name, f"{number:,}") for name, number in (("images", len(rows)), *by_status, ("labels", len(labels)))]


def _render(
    title: str,
    figures: list[tuple[str, str]],
    meta: Mapping[str, object],
    data: str,
    jpegs: Mapping[int, bytes],
    *,
    link: bool,
) -> bytes:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(_asset("page.html.j2"))
    style, script = _asset("page.css"), "\n".join(map(_asset, _SCRIPTS))
    try:
        run = provenance(meta) if meta else None
    except RecursionError:
        run = None  # metadata nested so deeply is hostile
    if run is not None and run.images_per_second is not None:
        figures = [*figures, ("images/s", f"{run.images_per_second:,.1f}")]
    page = template.render(
        title=visible(title),
        figures=figures,
        provenance=run,
        policy=_policy(style, script, link=link),
        style=style,
        script=script,
        data=data,
        thumbnails=[(number, base64.b64encode(jpeg).decode("ascii")) for number, jpeg in jpegs.items()],
    )
    return page.encode("utf-8", errors="backslashreplace")  # lone surrogates, which JSON escapes the same way


def _policy(style: str, script: str, *, link: bool) -> str:
    """The content security policy: what a browser may run and load."""
    return "; ".join(
        (
            "default-src 'none'",
            f"img-src {_SOURCES[link]}",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
