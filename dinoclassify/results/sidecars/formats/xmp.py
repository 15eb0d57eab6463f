"""Labels as keywords in an XMP sidecar, which digiKam, darktable and Lightroom read.

A label is in ``dc:subject``, flat, and in ``lr:hierarchicalSubject`` below the prefix: ``dino|tench``. Two lists in a
namespace of our own record which keywords are ours, so that a keyword of someone else is never doubled and never
removed. If an editor dropped those lists, no keyword counts as ours.

All other bytes of the file stay the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from dinoclassify.results.sidecars.formats.base import SidecarContent, SidecarError, words
from dinoclassify.results.sidecars.formats.xml_edit import (
    Edit,
    Element,
    append,
    cut,
    line_before,
    parse,
    splice,
    written_name,
)

TOOLKIT = "dinoclassify"  # in files that we make

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_DESCRIPTION, _ITEM, _ABOUT = f"{_RDF} Description", f"{_RDF} li", f"{_RDF} about"
_CONTAINERS = (f"{_RDF} Bag", f"{_RDF} Seq", f"{_RDF} Alt")

_EMPTY = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="{_META}" x:xmptk="{TOOLKIT}">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()


@dataclass(frozen=True, slots=True)
class _Property:
    """A list of keywords: its prefix and name as we write them, and its namespace."""

    prefix: str
    local: str
    namespace: str

    @property
    def name(self) -> str:
        """The name as in `Element`."""
        return f"{self.namespace} {self.local}"

    @property
    def tag(self) -> bytes:
        """The name as we write it."""
        return f"{self.prefix}:{self.local}".encode()

    @property
    def declaration(self) -> bytes:
        """The attribute that binds the prefix to the namespace."""
        return f' xmlns:{self.prefix}="{self.namespace}"'.encode()


_FLAT = _Property("dc", "subject", "http://purl.org/dc/elements/1.1/")
_TREE = _Property("lr", "hierarchicalSubject", "http://ns.adobe.com/lightroom/1.0/")
_OUR_FLAT = _Property("dinoclassify", "addedSubject", "urn:dinoclassify:1.0/")
_OUR_TREE = _Property("dinoclassify", "addedHierarchicalSubject", "urn:dinoclassify:1.0/")
_PROPERTIES = (_FLAT, _TREE, _OUR_FLAT, _OUR_TREE)
_DECLARATIONS = (_FLAT.declaration, _TREE.declaration, _OUR_FLAT.declaration)


@dataclass(frozen=True, slots=True)
class _List:
    """A property in a file: its Description, its element, and the element with the items."""

    description: Element
    element: Element
    container: Element


@dataclass(frozen=True, slots=True)
class _File:
    """A parsed sidecar."""

    content: bytes
    toolkit: str | None
    rdf: Element
    descriptions: tuple[Element, ...]
    lists: Mapping[_Property, list[_List]]

    def texts(self, wanted: _Property) -> list[str]:
        """The items of a property, of all its lists if it has several."""
        return [item.text for keywords in self.lists[wanted] for item in keywords.container.children]


@dataclass(frozen=True, slots=True)
class _Change:
    """Items that a property loses, and items that it gets."""

    lost: frozenset[str]
    new: tuple[str, ...]


def update(old: bytes | None, content: SidecarContent) -> bytes | None:
    """The file with the labels among its keywords; None if it would say nothing."""
    file = _read(_EMPTY if old is None else old)
    labels = [word.replace("|", "/") for word in words(content.labels)]  # a | would make a tree of keywords
    changes = {
        **_changes(file, _FLAT, _OUR_FLAT, labels),
        **_changes(file, _TREE, _OUR_TREE, [f"{content.prefix}|{label}" for label in labels]),
    }
    if not changes:
        return old
    has_our_description = _our_description(file) is not None
    new = _read(splice(file.content, _edits(file, changes)))  # also checks that the new content is XMP
    is_empty = all(_says_nothing_else(each) and not each.children for each in new.descriptions)
    return None if is_empty and (new.toolkit == TOOLKIT or not has_our_description) else new.content


def _read(content: bytes) -> _File:
    root = parse(content)
    toolkit = root.attributes.get(f"{_META} xmptk")
    is_root = root.name == f"{_RDF} RDF"
    rdfs = [root] if is_root else [child for child in root.children if child.name == f"{_RDF} RDF"]
    if len(rdfs) != 1 or (not is_root and root.name not in (f"{_META} xmpmeta", f"{_META} xapmeta")):
        raise SidecarError("is not XMP")
    descriptions = tuple(child for child in rdfs[0].children if child.name == _DESCRIPTION)
    lists = {keywords: _lists(descriptions, keywords) for keywords in _PROPERTIES}
    return _File(content, toolkit, rdfs[0], descriptions, lists)


def _lists(descriptions: Iterable[Element], wanted: _Property) -> list[_List]:
    """The lists of a property at the top level; deeper ones are of other images, from which this one was made."""
    lists = []
    for description in descriptions:
        elements = [element for element in description.children if element.name == wanted.name]
        are_lists = all(len(element.children) == 1 and element.children[0].name in _CONTAINERS for element in elements)
        if wanted.name in description.attributes or not are_lists:
            raise SidecarError(f"has a {wanted.tag.decode()} that is no list")
        lists += [_List(description, element, element.children[0]) for element in elements]
    return lists


def _changes(file: _File, keywords: _Property, record: _Property, labels: list[str]) -> dict[_Property, _Change]:
    """The changes of a list of keywords, and of the list that records ours among them; none if both are up to date."""
    present, recorded = file.texts(keywords), file.texts(record)
    ours = frozenset(recorded).intersection(present)
    owned = [label for label in labels if label in ours or label not in present]
    changes = {
        keywords: _Change(ours.difference(labels), tuple(label for label in labels if label not in present)),
        record: _Change(
            frozenset(recorded).difference(owned), tuple(label for label in owned if label not in recorded)
        ),
    }
    return {changed: change for changed, change in changes.items() if change.lost or change.new}


def _edits(file: _File, changes: Mapping[_Property, _Change]) -> list[Edit]:
    edits, removed, missing = [], set(), {}
    ours = _our_description(file)
    for changed, change in changes.items():
        new = change.new
        for keywords in file.lists[changed]:
            items = keywords.container.children
            lost = [item for item in items if item.text in change.lost]
            edits += [cut(file.content, item) for item in lost]
            if new:
                edits.append(_append_items(file.content, keywords, new))
            elif items and len(lost) == len(items) and (ours is None or keywords.description is ours):
                edits.append(cut(file.content, keywords.element))
                removed.add(id(keywords.element))
            new = ()
        if new and not file.lists[changed]:
            missing[changed] = new
    home = next((keywords.description for record in (_OUR_FLAT, _OUR_TREE) for keywords in file.lists[record]), None)
    if missing:
        edits.append(_new_description(file, missing) if home is None else _append_properties(file, home, missing))
    for description in file.descriptions:
        is_emptied = description.children and all(id(element) in removed for element in description.children)
        if is_emptied and _says_nothing_else(description) and not (missing and description is home):
            edits.append(cut(file.content, description))
    return edits


def _our_description(file: _File) -> Element | None:
    """The Description that we inserted; None if another program has rearranged the file since.

    While it exists, lists in other Descriptions are older than ours, even those that have only our keywords.
    """
    names = {keywords.name for keywords in _PROPERTIES}
    for record in (*file.lists[_OUR_FLAT], *file.lists[_OUR_TREE]):
        description = record.description
        tag = file.content[description.start : description.opened]
        children = {element.name for element in description.children}
        is_ours = children <= names and all(declaration in tag for declaration in _DECLARATIONS)
        if is_ours and _says_nothing_else(description):
            return description
    return None


def _says_nothing_else(description: Element) -> bool:
    """Whether a Description has no attributes but ``rdf:about``."""
    return set(description.attributes) <= {_ABOUT, "about"}


def _append_items(content: bytes, keywords: _List, new: Iterable[str]) -> Edit:
    items = keywords.container.children
    if items:
        line, name = line_before(content, items[0]), written_name(content, items[0])
    else:
        line = line_before(content, keywords.container)
        line += b" " if line else b""
        name = _prefixed(written_name(content, keywords.container), b"li")
    return append(content, keywords.container, b"".join(_leaf(line, name, text) for text in new))


def _append_properties(file: _File, home: Element, missing: Mapping[_Property, tuple[str, ...]]) -> Edit:
    """An edit that adds properties to the Description with our lists, each with its namespace declared."""
    line = line_before(file.content, home.children[0])
    rdf = written_name(file.content, home)
    step = b" " if line else b""
    added = (_property(name, new, name.declaration, rdf, line, step) for name, new in missing.items())
    return append(file.content, home, b"".join(added))


def _new_description(file: _File, missing: Mapping[_Property, tuple[str, ...]]) -> Edit:
    """An edit that adds a Description of ours, about the same image and indented like the others."""
    content, rdf = file.content, written_name(file.content, file.rdf)
    first = file.descriptions[0] if file.descriptions else None
    if first is not None:
        line = line_before(content, first)
        inner = line_before(content, first.children[0]) if first.children else b""
        step = inner[len(line) :] if line and inner.startswith(line) and inner != line else b" " if line else b""
    else:
        line = line_before(content, file.rdf)
        line += b" " if line else b""
        step = b" " if line else b""
    has_prefix = b":" in rdf  # an attribute needs one to be in the namespace
    name = _prefixed(rdf if has_prefix else b"rdf:RDF", b"Description")
    about = "" if first is None else first.attributes.get(_ABOUT, first.attributes.get("about", ""))
    declarations = b"".join((*(() if has_prefix else (f' xmlns:rdf="{_RDF}"'.encode(),)), *_DECLARATIONS))
    attribute = _prefixed(name, b"about") + b"=" + quoteattr(about).encode()
    properties = (_property(added, new, b"", name, line + step, step) for added, new in missing.items())
    return append(
        content,
        file.rdf,
        b"%b<%b %b%b>%b%b</%b>" % (line, name, attribute, declarations, b"".join(properties), line, name),
    )


def _property(
    keywords: _Property, texts: Iterable[str], declaration: bytes, rdf: bytes, line: bytes, step: bytes
) -> bytes:
    """A property with its items as XML; ``rdf`` is any name with the prefix of RDF."""
    bag = _prefixed(rdf, b"Bag")
    items = b"".join(_leaf(line + step + step, _prefixed(rdf, b"li"), text) for text in texts)
    inner = b"%b<%b>%b%b</%b>" % (line + step, bag, items, line + step, bag)
    return b"%b<%b%b>%b%b</%b>" % (line, keywords.tag, declaration, inner, line, keywords.tag)


def _leaf(line: bytes, name: bytes, text: str) -> bytes:
    return b"%b<%b>%b</%b>" % (line, name, escape(text).encode(), name)


def _prefixed(name: bytes, local: bytes) -> bytes:
    """Another local name with the prefix of a name."""
    prefix, colon, _ = name.rpartition(b":")
    return prefix + colon + local
