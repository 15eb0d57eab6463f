"""Labels as keywords in an XMP sidecar, which digiKam, darktable and Lightroom read.

A label is in ``dc:subject``, flat, and in ``lr:hierarchicalSubject`` below the prefix: ``dino|tench``. What is ours of
that stands in two lists of a namespace of our own, so that a keyword which somebody has given before us is never
doubled and never taken out. Where an editor has dropped those lists, nothing is ours.

Everything else in the file stays as it is, to the byte.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from dinoclassify.results.sidecars.base import SidecarContent, SidecarError, words
from dinoclassify.results.sidecars.xml_edit import Edit, Element, append, cut, line_before, parse, spliced, written_name
from dinoclassify.types.prediction import Label

TOOLKIT = "dinoclassify"  # in a file that we have made

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
    """A list of keywords: its name as we write it, and its namespace."""

    prefix: str
    local: str
    namespace: str

    @property
    def name(self) -> str:
        """As `Element` has it."""
        return f"{self.namespace} {self.local}"

    @property
    def tag(self) -> bytes:
        """As we write it."""
        return f"{self.prefix}:{self.local}".encode()

    @property
    def declaration(self) -> bytes:
        """What tells a reader the namespace."""
        return f' xmlns:{self.prefix}="{self.namespace}"'.encode()


_FLAT = _Property("dc", "subject", "http://purl.org/dc/elements/1.1/")
_TREE = _Property("lr", "hierarchicalSubject", "http://ns.adobe.com/lightroom/1.0/")
_OUR_FLAT = _Property("dinoclassify", "addedSubject", "urn:dinoclassify:1.0/")
_OUR_TREE = _Property("dinoclassify", "addedHierarchicalSubject", "urn:dinoclassify:1.0/")
_PROPERTIES = (_FLAT, _TREE, _OUR_FLAT, _OUR_TREE)
_DECLARATIONS = (_FLAT.declaration, _TREE.declaration, _OUR_FLAT.declaration)


@dataclass(frozen=True, slots=True)
class _List:
    """A property as it is in a file: its Description, its element, and the one that holds the items."""

    description: Element
    element: Element
    container: Element

    @property
    def texts(self) -> list[str]:
        """Of the items."""
        return [item.text for item in self.container.children]


@dataclass(frozen=True, slots=True)
class _File:
    """What we need of a sidecar."""

    content: bytes
    toolkit: str | None
    rdf: Element
    descriptions: tuple[Element, ...]
    lists: Mapping[_Property, list[_List]]

    def texts(self, kept_in: _Property) -> list[str]:
        """The items of a property, all of them if it is there several times."""
        return [text for found in self.lists[kept_in] for text in found.texts]


@dataclass(frozen=True, slots=True)
class _Change:
    """Items that a property loses, and those that it gets."""

    lost: frozenset[str]
    new: tuple[str, ...]


def update(old: bytes | None, wanted: SidecarContent) -> bytes | None:
    """The file with the labels that are wanted among its keywords; None if there is nothing in it.

    Raises:
        SidecarError: it is not XMP in UTF-8.
    """
    file = _read(_EMPTY if old is None else old)
    flat, tree = _ours(file)
    wishes = _keywords(wanted.labels)
    changes = {
        **_changes(file, _FLAT, _OUR_FLAT, flat, wishes),
        **_changes(file, _TREE, _OUR_TREE, tree, [f"{wanted.prefix}|{word}" for word in wishes]),
    }
    if not changes:
        return old
    alone = _our_description(file) is not None
    left = _read(spliced(file.content, _edits(file, changes)))  # what we have made is XMP, or is not written
    nothing = not any(_says_something(description) for description in left.descriptions)
    return None if nothing and (left.toolkit == TOOLKIT or not alone) else left.content


def _keywords(labels: Iterable[Label]) -> list[str]:
    """The names of labels, without what would make a tree of them."""
    return [word.replace("|", "/") for word in words(labels)]


def _read(content: bytes) -> _File:
    root = parse(content)
    toolkit = root.attributes.get(f"{_META} xmptk")
    inner = [root] if root.name == f"{_RDF} RDF" else [one for one in root.children if one.name == f"{_RDF} RDF"]
    if len(inner) != 1 or (inner[0] is not root and root.name not in (f"{_META} xmpmeta", f"{_META} xapmeta")):
        raise SidecarError("is not XMP")
    descriptions = tuple(one for one in inner[0].children if one.name == _DESCRIPTION)
    return _File(content, toolkit, inner[0], descriptions, {one: _lists(descriptions, one) for one in _PROPERTIES})


def _lists(descriptions: Iterable[Element], wanted: _Property) -> list[_List]:
    """Where the property is; what is nested deeper is of other images, of which this one was made."""
    found = []
    for description in descriptions:
        elements = [element for element in description.children if element.name == wanted.name]
        whole = all(len(element.children) == 1 and element.children[0].name in _CONTAINERS for element in elements)
        if wanted.name in description.attributes or not whole:
            raise SidecarError(f"has a {wanted.tag.decode()} that is no list")
        found += [_List(description, element, element.children[0]) for element in elements]
    return found


def _ours(file: _File) -> tuple[frozenset[str], frozenset[str]]:
    """The keywords that are ours, flat and hierarchical."""
    flat = frozenset(file.texts(_OUR_FLAT)).intersection(file.texts(_FLAT))
    return flat, frozenset(file.texts(_OUR_TREE)).intersection(file.texts(_TREE))


def _changes(
    file: _File, keywords: _Property, record: _Property, ours: frozenset[str], wishes: list[str]
) -> dict[_Property, _Change]:
    """What becomes of a list of keywords, and of that of ours among them; nothing where all is as it is wished."""
    there, recorded = file.texts(keywords), file.texts(record)
    owned = [wish for wish in wishes if wish in ours or wish not in there]
    changes = {
        keywords: _Change(ours.difference(wishes), tuple(wish for wish in wishes if wish not in there)),
        record: _Change(frozenset(recorded).difference(owned), tuple(wish for wish in owned if wish not in recorded)),
    }
    return {changed: change for changed, change in changes.items() if change.lost or change.new}


def _edits(file: _File, changes: Mapping[_Property, _Change]) -> list[Edit]:
    """The changes as edits of the bytes."""
    edits, gone, missing = [], set(), {}
    ours = _our_description(file)
    for changed, change in changes.items():
        new = change.new
        for found in file.lists[changed]:
            stay = [item for item in found.container.children if item.text not in change.lost]
            edits += [cut(file.content, item) for item in found.container.children if item.text in change.lost]
            if new:
                edits.append(_append_items(file.content, found, new))
            elif not stay and found.texts and (ours is None or found.description is ours):
                edits.append(cut(file.content, found.element))
                gone.add(id(found.element))
            new = ()
        if new and not file.lists[changed]:
            missing[changed] = new
    home = next((found.description for record in (_OUR_FLAT, _OUR_TREE) for found in file.lists[record]), None)
    if missing:
        edits.append(_new_description(file, missing) if home is None else _append_properties(file, home, missing))
    for description in file.descriptions:
        emptied = description.children and all(id(element) in gone for element in description.children)
        if emptied and _says_nothing_else(description) and not (missing and description is home):
            edits.append(cut(file.content, description))
    return edits


def _our_description(file: _File) -> Element | None:
    """The Description that we have put in, if nobody has arranged the file anew since.

    While it is there, lists that stand elsewhere were there before us, even those with no keywords but ours.
    """
    names = {one.name for one in _PROPERTIES}
    for found in (*file.lists[_OUR_FLAT], *file.lists[_OUR_TREE]):
        tag = file.content[found.description.start : found.description.opened]
        children = {element.name for element in found.description.children}
        if children <= names and _says_nothing_else(found.description) and all(one in tag for one in _DECLARATIONS):
            return found.description
    return None


def _says_nothing_else(description: Element) -> bool:
    """Whether a Description has nothing but its children."""
    return set(description.attributes) <= {_ABOUT, "about"}


def _says_something(description: Element) -> bool:
    return bool(description.children) or not _says_nothing_else(description)


def _append_items(content: bytes, found: _List, new: Iterable[str]) -> Edit:
    """New items, like those that are there."""
    items = found.container.children
    if items:
        line, name = line_before(content, items[0]), written_name(content, items[0])
    else:
        line = line_before(content, found.container)
        line += b" " if line else b""
        name = _prefixed(written_name(content, found.container), b"li")
    return append(content, found.container, b"".join(_leaf(line, name, text) for text in new))


def _append_properties(file: _File, home: Element, missing: Mapping[_Property, tuple[str, ...]]) -> Edit:
    """New properties in the Description that has our lists; it may not declare all namespaces any more."""
    line = line_before(file.content, home.children[0])
    rdf = written_name(file.content, home)
    step = b" " if line else b""
    written = (_written(one, new, one.declaration, rdf, line, step) for one, new in missing.items())
    return append(file.content, home, b"".join(written))


def _new_description(file: _File, missing: Mapping[_Property, tuple[str, ...]]) -> Edit:
    """A Description of ours, indented like the others, about the same image."""
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
    bound = b":" in rdf  # else an attribute cannot be of its namespace
    name = _prefixed(rdf if bound else b"rdf:RDF", b"Description")
    about = "" if first is None else first.attributes.get(_ABOUT, first.attributes.get("about", ""))
    declarations = b"".join((*(() if bound else (f' xmlns:rdf="{_RDF}"'.encode(),)), *_DECLARATIONS))
    attribute = _prefixed(name, b"about") + b"=" + quoteattr(about).encode()
    properties = (_written(one, new, b"", name, line + step, step) for one, new in missing.items())
    return append(
        content,
        file.rdf,
        b"%b<%b %b%b>%b%b</%b>" % (line, name, attribute, declarations, b"".join(properties), line, name),
    )


def _written(one: _Property, texts: Iterable[str], declaration: bytes, rdf: bytes, line: bytes, step: bytes) -> bytes:
    """A property that is a list; ``rdf`` is any name with the prefix of RDF."""
    bag = _prefixed(rdf, b"Bag")
    items = b"".join(_leaf(line + step + step, _prefixed(rdf, b"li"), text) for text in texts)
    inner = b"%b<%b>%b%b</%b>" % (line + step, bag, items, line + step, bag)
    return b"%b<%b%b>%b%b</%b>" % (line, one.tag, declaration, inner, line, one.tag)


def _leaf(line: bytes, name: bytes, text: str) -> bytes:
    return b"%b<%b>%b</%b>" % (line, name, escape(text).encode(), name)


def _prefixed(name: bytes, local: bytes) -> bytes:
    """Another name in the namespace of a name."""
    prefix, colon, _ = name.rpartition(b":")
    return prefix + colon + local
