"""XML edited as bytes: elements are inserted or cut out, and all other bytes stay the same.

Writing a parsed tree out again would change the quotes, line ends, prefixes and padding that another program chose.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.parsers import expat

from dinoclassify.results.sidecars.formats.base import SidecarError

_TAG = re.compile(rb"""<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""")
_NAME = re.compile(rb"<([^\s/>]+)")


@dataclass(frozen=True, slots=True)
class Element:
    """An element and its place in the bytes: [start, stop), with its content in [opened, closing).

    A name is the namespace, a space and the local name, or the local name alone.
    """

    name: str
    attributes: Mapping[str, str]
    text: str
    children: tuple["Element", ...]
    start: int
    opened: int
    closing: int
    stop: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the bytes in [start, stop)."""

    start: int
    stop: int
    new: bytes = b""


@dataclass(slots=True)
class _OpenElement:
    """An element whose end is not parsed yet."""

    name: str
    attributes: Mapping[str, str]
    start: int
    texts: list[str]
    children: list[Element]


def parse(content: bytes) -> Element:
    """The root element of a document.

    Raises:
        SidecarError: it is not XML in UTF-8, or has a DOCTYPE, whose entities may be bombs or name other files.
    """
    if b"\0" in content:
        raise SidecarError("is not XML in UTF-8")
    parser = expat.ParserCreate(namespace_separator=" ")
    document = _OpenElement("", {}, 0, [], [])
    stack = [document]

    def declare(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            raise SidecarError(f"is XML in {encoding}, not in UTF-8")

    def refuse(*_: object) -> None:
        raise SidecarError("has a DOCTYPE")

    def begin(name: str, attributes: dict[str, str]) -> None:
        stack.append(_OpenElement(name, attributes, parser.CurrentByteIndex, [], []))

    def end(_name: str) -> None:
        element = stack.pop()
        stack[-1].children.append(_closed(content, element, parser.CurrentByteIndex))

    parser.XmlDeclHandler = declare
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.CharacterDataHandler = lambda text: stack[-1].texts.append(text)
    parser.EndElementHandler = end
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise SidecarError(f"is not XML ({error})") from error
    return document.children[0]


def cut(content: bytes, element: Element) -> Edit:
    """An edit that removes an element and the white space before it."""
    return Edit(element.start - len(_space_before(content, element)), element.stop)


def append(content: bytes, element: Element, new: bytes) -> Edit:
    """An edit that inserts bytes right behind the last child of an element; they bring their own white space."""
    if element.opened == element.stop:  # one tag, <x/>
        return Edit(element.stop - 2, element.stop, b">" + new + b"</" + written_name(content, element) + b">")
    place = element.children[-1].stop if element.children else element.opened
    return Edit(place, place, new)


def splice(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The bytes with all edits applied; an edit within another is dropped."""
    pieces, place = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.stop)):
        if edit.start >= place:
            pieces += [content[place : edit.start], edit.new]
            place = edit.stop
    return b"".join([*pieces, content[place:]])


def line_before(content: bytes, element: Element) -> bytes:
    """The line end and indentation before an element; empty if the element does not start a line."""
    match = re.search(rb"\r?\n[ \t]*\Z", _space_before(content, element))
    return match[0] if match else b""


def written_name(content: bytes, element: Element) -> bytes:
    """The name of an element in the file, with its prefix."""
    match = _NAME.match(content, element.start)
    return match[1] if match else b""


def _closed(content: bytes, element: _OpenElement, here: int) -> Element:
    """The element once the parser has found its end ``here``."""
    tag = _TAG.match(content, element.start)
    opened = tag.end() if tag else here
    closes_itself = content[opened - 2 : opened] == b"/>"
    closing, stop = (opened, opened) if closes_itself else (here, content.index(b">", here) + 1)
    text, children = "".join(element.texts), tuple(element.children)
    return Element(element.name, element.attributes, text, children, element.start, opened, closing, stop)


def _space_before(content: bytes, element: Element) -> bytes:
    start = element.start
    while start and content[start - 1] in b" \t\r\n":
        start -= 1
    return content[start : element.start]
