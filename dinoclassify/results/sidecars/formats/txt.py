"""Labels in a text file, one per line.

The file does not show who wrote a line. So lines are removed only on demand: those with a label of the row, at any
rank.
"""

import codecs
import re

from dinoclassify.results.sidecars.formats.base import SidecarContent, SidecarError, words

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def update(old: bytes | None, content: SidecarContent) -> bytes | None:
    """The file with a line for each label, and all other lines unchanged; None if it would be empty."""
    mark, lines = _read(old or b"")
    labels = [word.encode() for word in words(content.labels)]
    unwanted = {word.encode() for word in words(content.ranks)}.difference(labels)
    remaining = [line for line in lines if line.removesuffix(b"\n").removesuffix(b"\r") not in unwanted]
    present = {line.strip() for line in remaining}
    missing = [label for label in labels if label not in present]
    if len(remaining) == len(lines) and not missing:
        return old
    end = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    has_end = not lines or lines[-1].endswith(b"\n")
    if missing and remaining and not remaining[-1].endswith(b"\n"):
        remaining[-1] += end
    new = b"".join([*remaining, *(label + end for label in missing)])
    new = new if has_end else new.removesuffix(end)
    return mark + new if new else None


def _read(content: bytes) -> tuple[bytes, list[bytes]]:
    """The byte order mark, if there is one, and the lines with their ends."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SidecarError("is no text in UTF-8") from error
    if b"\0" in content:
        raise SidecarError("is no text")
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    return mark, _LINE.findall(content, len(mark))
