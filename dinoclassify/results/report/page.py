"""Rows -> one page of HTML that needs nothing but a browser: data, styles, script and thumbnails stand in it.

What comes from outside (paths, labels, reasons, the sidecar) reaches the page in two ways: through the template, which
escapes it, and as JSON, which the script puts on the page as text. Beside that, the page's policy allows the one style
and the one script that are known by their hashes, and no request.
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
from dinoclassify.results.report.data import as_columns, as_json, url_of, visible
from dinoclassify.results.report.provenance import provenance
from dinoclassify.storage.atomic import as_output_errors, close_checked, is_regular, open_in_place, replacing
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

STDOUT = "-"

Thumbnails = Iterator[bytes | None]
Watch = Callable[[Thumbnails, int], Thumbnails]

_SCRIPTS = ("page.js", "overview.js", "images.js", "hands.js")  # which make one
_SHOWN = 6  # images of a label, where none is embedded
_SOURCES = {False: "data:", True: "data: file: 'self'"}  # of images, by whether they are linked


def _unwatched(thumbnails: Thumbnails, _: int) -> Thumbnails:
    return thumbnails


@dataclass(frozen=True, slots=True)
class Written:
    """What has been written: rows, embedded thumbnails, and bytes in all."""

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
    watch: Watch = _unwatched,
) -> Written:
    """Write the page of all rows; the same rows, images and sidecar are the same bytes.

    Args:
        output: a file, which appears whole or not at all; `STDOUT`; or a device or a pipe.
        rows: read to the end first.
        title: the name of the page.
        meta: what stands in the sidecar of the rows; nothing if there is none.
        group: gives the group of a row that has a label; None for no groups.
        thumbnails: how many images of each label are embedded, those with the highest scores.
        link: show the other images from where they lie.
        find: gives the image of a row, see `results.image_file.file_finder`.
        watch: gets the thumbnails as they are made, and how many there will be, and gives them back.

    Raises:
        UsageError: it would be written over one of the images.
        OutputError: it cannot be written.
        WorkerError: no images can be decoded.
    """
    rows = list(rows)
    images = {number: find(row) for number, row in enumerate(rows)}
    _check_images(output, images.values())
    with _opened(output) as file:
        jpegs = _thumbnails(rows, images, thumbnails, watch)
        folder = os.path.dirname(output) if is_regular(output) else ""
        links = _links(rows, images, folder) if link else {}
        columns = as_columns(rows, group, links, list(jpegs), thumbnails or _SHOWN)
        page = _render(title, _figures(rows), meta, as_json(columns), jpegs, link=link)
        with as_output_errors(output):
            file.write(page)
    return Written(len(rows), len(jpegs), len(page))


def most_certain(rows: Sequence[Prediction], most: int) -> list[int]:
    """The numbers of those rows that have one of the ``most`` highest scores of their label, in order."""
    by_class: defaultdict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.top:
            by_class[row.top[0].label, row.top[0].index].append((-row.top[0].score, number))
    return sorted(number for found in by_class.values() for _, number in sorted(found)[:most])


def _check_images(output: str, images: Iterable[str]) -> None:
    if not os.path.isfile(output):
        return
    if any(os.path.isfile(image) and os.path.samefile(image, output) for image in images):
        raise UsageError(f"{output} is one of the images: it would be written over")


@contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    if output == STDOUT:
        if sys.stdout is None:
            raise OutputError("stdout is closed: name a file with --output")
        yield sys.stdout.buffer
        with as_output_errors("stdout"):
            sys.stdout.buffer.flush()
    elif is_regular(output):
        with replacing(os.path.realpath(output)) as file:  # a link stays one
            yield file
    else:
        with as_output_errors(output):
            file = open_in_place(output, "wb")  # closed below, where its errors can be told from the block's
        with close_checked(file, output):
            yield file


def _thumbnails(rows: Sequence[Prediction], images: Mapping[int, str], most: int, watch: Watch) -> dict[int, bytes]:
    """The JPEGs of the images that are chosen and still as they were; without one nothing is loaded that decodes."""
    chosen = most_certain(rows, most)
    fresh = {number: images[number] for number in chosen if why_stale(rows[number], images[number]) is None}
    jpegs: dict[int, bytes] = {}
    if fresh:
        from dinoclassify.results.report.thumbnails import make_thumbnails

        made = watch(make_thumbnails(list(fresh.values())), len(fresh))
        jpegs = {number: jpeg for number, jpeg in zip(fresh, made, strict=True) if jpeg is not None}
    if missing := len(chosen) - len(jpegs):
        some = f"{missing:,} of {len(chosen):,}"
        log.warning("%s thumbnails are missing: their images are gone, have changed or cannot be decoded", some)
    return jpegs


def _links(rows: Sequence[Prediction], images: Mapping[int, str], folder: str) -> dict[int, str]:
    """The addresses of images that have a label: a browser is not given what our own decoders refused."""
    urls = ((number, url_of(images[number], folder or ".")) for number, row in enumerate(rows) if row.top)
    return {number: url for number, url in urls if url is not None}


def _figures(rows: Sequence[Prediction]) -> list[tuple[str, str]]:
    statuses = Counter(row.status for row in rows)
    labels = {(row.label, row.index) for row in rows if row.top}
    numbers = {
        "images": len(rows),
        "ok": statuses["ok"],
        "uncertain": statuses["uncertain"],
        "failed": statuses["failed"],
        "labels": len(labels),
    }
    return [(name, f"{number:,}") for name, number in numbers.items()]


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
    template = environment.from_string(_read("page.html.j2"))
    style, script = _read("page.css"), "\n".join(map(_read, _SCRIPTS))
    try:
        made_with = provenance(meta) if meta else None
    except RecursionError:
        made_with = None  # nobody has nested it so by honest means
    if made_with is not None and made_with.images_per_second is not None:
        figures = [*figures, ("images/s", f"{made_with.images_per_second:,.1f}")]
    page = template.render(
        title=visible(title),
        figures=figures,
        provenance=made_with,
        policy=_policy(style, script, link=link),
        style=style,
        script=script,
        data=data,
        thumbnails=[(number, base64.b64encode(jpeg).decode("ascii")) for number, jpeg in jpegs.items()],
    )
    return page.encode("utf-8", errors="backslashreplace")  # halves of surrogate pairs, as JSON too writes them


def _policy(style: str, script: str, *, link: bool) -> str:
    """What a browser may run and load."""
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


def _read(name: str) -> str:
    """A file of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
