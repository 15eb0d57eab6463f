"""Labels in a text file, one a line.

Nothing in it tells who wrote a line, and so none is ever taken out but on demand: then those go that are labels of the
image's row, whatever their rank.
"""

import codecs
import re

from dinoclassify.results.sidecars.base import SidecarContent, SidecarError, words

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def update(old: bytes | None, wanted: SidecarContent) -> bytes | None:
    """The file with the labels that are wanted, and all other lines as they are; None if there is nothing in it.

    Raises:
        SidecarError: it is no text.
    """
    mark, lines = _read(old or b"")
    wishes = [word.encode() for word in words(wanted.labels)]
    unwanted = {word.encode() for word in words(wanted.ranks)}.difference(wishes)
    kept = [line for line in lines if _without_end(line) not in unwanted]
    there = {line.strip() for line in kept}
    added = [word for word in wishes if word not in there]
    if len(kept) == len(lines) and not added:
        return old
    end = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    ends = not lines or lines[-1].endswith(b"\n")
    if added and kept and not kept[-1].endswith(b"\n"):
        kept[-1] += end
    content = b"".join([*kept, *(word + end for word in added)])
    content = content if ends else content.removesuffix(end)  # as the file was
    return mark + content if content else None


def _read(content: bytes) -> tuple[bytes, list[bytes]]:
    """The mark that some editors set before UTF-8, and the lines with their ends."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SidecarError("is no text in UTF-8") from error
    if b"\0" in content:
        raise SidecarError("is no text")
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    return mark, _LINE.findall(content, len(mark))


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")
