"""XML as bytes: where its elements stand, so that some can be put in or cut out and all else stays to the byte.

A tree that is written out again would have other quotes, line ends, prefixes and padding than the program chose whose
file it is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.parsers import expat

from dinoclassify.results.sidecars.base import SidecarError

_TAG = re.compile(rb"""<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""")
_NAME = re.compile(rb"<([^\s/>]+)")


@dataclass(frozen=True, slots=True)
class Element:
    """An element and its place in the bytes: all of it is [start, stop), its content [opened, closing).

    Names are the namespace and the local name with a space between, or the local name alone.
    """

    name: str
    attributes: Mapping[str, str]
    text: str
    children: tuple["Element", ...]
    start: int
    opened: int
    closing: int
    stop: int

    @property
    def closes_itself(self) -> bool:
        """Whether it is one tag, ``<x/>``."""
        return self.opened == self.stop


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes to put in the place of [start, stop)."""

    start: int
    stop: int
    new: bytes = b""


@dataclass(slots=True)
class _Begun:
    """An element of which the end has not been seen."""

    name: str
    attributes: Mapping[str, str]
    start: int
    texts: list[str]
    children: list[Element]


def parse(content: bytes) -> Element:
    """The root of a document.

    Raises:
        SidecarError: it is not XML in UTF-8, or has a DOCTYPE: entities, which may be bombs or lead elsewhere.
    """
    if b"\0" in content:
        raise SidecarError("is not XML in UTF-8")
    parser = expat.ParserCreate(namespace_separator=" ")
    above = _Begun("", {}, 0, [], [])
    begun = [above]

    def declare(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            raise SidecarError(f"is XML in {encoding}, not in UTF-8")

    def refuse(*_: object) -> None:
        raise SidecarError("has a DOCTYPE")

    def begin(name: str, attributes: dict[str, str]) -> None:
        begun.append(_Begun(name, attributes, parser.CurrentByteIndex, [], []))

    def read(text: str) -> None:
        begun[-1].texts.append(text)

    def end(_name: str) -> None:
        done = begun.pop()
        begun[-1].children.append(_placed(content, done, parser.CurrentByteIndex))

    parser.XmlDeclHandler = declare
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.CharacterDataHandler = read
    parser.EndElementHandler = end
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise SidecarError(f"is not XML ({error})") from error
    return above.children[0]


def cut(content: bytes, element: Element) -> Edit:
    """Take an element out, with the white space before it."""
    return Edit(element.start - len(_space_before(content, element)), element.stop)


def append(content: bytes, element: Element, new: bytes) -> Edit:
    """Put something in behind the last child of an element, where there is no white space but what it brings."""
    if element.closes_itself:
        return Edit(element.stop - 2, element.stop, b">" + new + b"</" + written_name(content, element) + b">")
    place = element.children[-1].stop if element.children else element.opened
    return Edit(place, place, new)


def spliced(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The bytes with all edits; one within another goes with it."""
    pieces, place = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.stop)):
        if edit.start >= place:
            pieces += [content[place : edit.start], edit.new]
            place = edit.stop
    return b"".join([*pieces, content[place:]])


def line_before(content: bytes, element: Element) -> bytes:
    """The line end before an element, with what it is indented by; nothing if it stands behind another."""
    found = re.search(rb"\r?\n[ \t]*\Z", _space_before(content, element))
    return found[0] if found else b""


def written_name(content: bytes, element: Element) -> bytes:
    """The name of an element as it is written, with its prefix."""
    found = _NAME.match(content, element.start)
    return found[1] if found else b""


def _placed(content: bytes, done: _Begun, here: int) -> Element:
    """The element that has been begun and of which the parser has seen the end ``here``."""
    tag = _TAG.match(content, done.start)
    opened = tag.end() if tag else here
    whole = content[opened - 2 : opened] == b"/>"
    closing, stop = (opened, opened) if whole else (here, content.index(b">", here) + 1)
    text, children = "".join(done.texts), tuple(done.children)
    return Element(done.name, done.attributes, text, children, done.start, opened, closing, stop)


def _space_before(content: bytes, element: Element) -> bytes:
    start = element.start
    while start and content[start - 1] in b" \t\r\n":
        start -= 1
    return content[start : element.start]
