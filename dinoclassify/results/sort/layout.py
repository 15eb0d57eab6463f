"""Where in a folder an image goes: a template, and folder names that every file system takes."""

import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from string import Formatter

from dinoclassify.errors import UsageError
from dinoclassify.labels.imagenet import are_imagenets, imagenet_labels, short_name
from dinoclassify.messages import nearest

FIELDS = ("label", "group", "score", "status", "rank", "name", "stem", "suffix", "parent")

_LONGEST = 255  # bytes of a name, on most file systems
_BETWEEN_WORDS = re.compile(r"\s*,[\s,]*")  # synonyms, as in ImageNet's labels
_UNSAFE = frozenset('<>:"/\\|?*')  # on Windows; control characters, too, see `safe_name`
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)  # on Windows


@dataclass(frozen=True, slots=True)
class Layout:
    """A template, split at its slashes: each name is a sequence of text and the field that follows it, or None."""

    names: tuple[tuple[tuple[str, str | None], ...], ...]

    def uses(self, field: str) -> bool:
        """Whether the template has the field."""
        return any(used == field for name in self.names for _, used in name)

    def fill(self, values: Mapping[str, str]) -> str:
        """The relative path, with each name short enough for a file system; the last one keeps its suffix."""
        names = ["".join(text + (values[field] if field else "") for text, field in name) for name in self.names]
        *folders, file = (name if name.strip(".") else "_" for name in names)
        return os.path.join(*(shorten(folder) for folder in folders), shorten(*os.path.splitext(file)))


def parse_layout(template: str) -> Layout:
    """The layout of a template such as ``{label}/{name}``.

    Raises:
        UsageError: it has a field that is not in `FIELDS`, or leads out of the folder.
    """
    names: list[list[tuple[str, str | None]]] = [[]]
    try:
        for text, field, form, conversion in Formatter().parse(template):
            first, *others = text.split("/")
            names[-1].append((first, None))
            names += [[(part, None)] for part in others]
            if field is not None and (field not in FIELDS or form or conversion):
                raise UsageError(f"--layout {template}{nearest(field, FIELDS)}: choose from {{{'} {'.join(FIELDS)}}}")
            names[-1].append(("", field))
    except ValueError as error:
        raise UsageError(f"--layout {template}: {error}") from error
    for name in names:
        text = "".join(text for text, _ in name)
        if "\0" in text or (not any(field for _, field in name) and text in ("", ".", "..")):
            raise UsageError(f"--layout {template} is not a path below a folder, such as {{label}}/{{name}}")
    return Layout(tuple(map(tuple, names)))


def folder_namer() -> Callable[[str, int], str]:
    """A function that gives the folder name of a class, by its label and index.

    Of the synonyms in an ImageNet label, the name is the first. If a file system could take the names of several
    classes for the same, the index follows all but one: the lowest index of ImageNet, else the class asked for first.
    """
    owners: dict[str, int] = {}

    @cache
    def name(label: str, index: int) -> str:
        if are_imagenets({index: label}):
            return _imagenet_folders()[index]
        safe = safe_name(label)
        while owners.setdefault(_folded(safe), index) != index:
            safe = shorten(safe, f"-{index}")
        return safe

    return name


@cache
def _imagenet_folders() -> list[str]:
    names = [safe_name(short_name(label, index)) for index, label in enumerate(imagenet_labels())]
    folded = [_folded(name) for name in names]
    return [name if folded.index(folded[index]) == index else f"{name}-{index}" for index, name in enumerate(names)]


def _folded(name: str) -> str:
    """A form that is equal for all names that some file system takes for the same."""
    return unicodedata.normalize("NFKC", name).casefold()


def safe_name(text: str) -> str:
    """The text as the name of a folder that is valid on Linux, macOS and Windows, and not hidden."""
    text = _BETWEEN_WORDS.sub("_", unicodedata.normalize("NFC", text).strip())
    text = "".join("_" if character in _UNSAFE or not character.isprintable() else character for character in text)
    text = shorten(_RESERVED.sub(r"\1_", text.strip(" ")))
    return re.sub(r"^\.+|[. ]+$", "_", text) or "_"


def shorten(name: str, ending: str = "") -> str:
    """The name with an ending, cut so that a file system takes it; the ending is kept."""
    while len(os.fsencode(name + ending)) > _LONGEST:
        name, ending = (name[:-1], ending) if name else ("", ending[:-1])
    return name + ending
