"""Where in a folder an image goes: a template, and names of folders that every file system takes."""

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
_UNSAFE = frozenset('<>:"/\\|?*')  # on Windows, with control characters
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)  # there too


@dataclass(frozen=True, slots=True)
class Layout:
    """A template, taken apart at its slashes: for each name, text and the field that follows it, if one does."""

    names: tuple[tuple[tuple[str, str | None], ...], ...]

    def uses(self, field: str) -> bool:
        """Whether the field stands in it."""
        return any(used == field for name in self.names for _, used in name)

    def fill(self, values: Mapping[str, str]) -> str:
        """The relative path, each name in it short enough; the last one keeps its suffix."""
        names = ["".join(text + (values[field] if field else "") for text, field in name) for name in self.names]
        *folders, file = (name if name.strip(".") else "_" for name in names)
        return os.path.join(*(shortened(folder) for folder in folders), shortened(*os.path.splitext(file)))


def parse_layout(template: str) -> Layout:
    """The layout of a template such as ``{label}/{name}``.

    Raises:
        UsageError: it has fields that are not in `FIELDS`, or leads out of the folder.
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
    """A function that gives each class a name for its folder, by its label and index.

    Of the synonyms that ImageNet has for a class, that is the first. Classes whose names a file system could take for
    the same have their index behind them, all but the first: of ImageNet's the first there is, of others to come.
    """
    owners: dict[str, int] = {}

    @cache
    def name(label: str, index: int) -> str:
        if are_imagenets({index: label}):
            return _imagenet_folders()[index]
        safe = safe_name(label)
        while owners.setdefault(_as_some_see_it(safe), index) != index:
            safe = shortened(safe, f"-{index}")
        return safe

    return name


@cache
def _imagenet_folders() -> list[str]:
    names = [safe_name(short_name(label, index)) for index, label in enumerate(imagenet_labels())]
    seen = [_as_some_see_it(name) for name in names]
    return [name if seen.index(seen[index]) == index else f"{name}-{index}" for index, name in enumerate(names)]


def _as_some_see_it(name: str) -> str:
    """The same for all names that are the same to some file system."""
    return unicodedata.normalize("NFKC", name).casefold()


def safe_name(text: str) -> str:
    """A name for a folder that is as much like the text as Linux, macOS and Windows allow, and is not hidden."""
    text = _BETWEEN_WORDS.sub("_", unicodedata.normalize("NFC", text).strip())
    text = "".join("_" if character in _UNSAFE or not character.isprintable() else character for character in text)
    text = shortened(_RESERVED.sub(r"\1_", text.strip(" ")))
    return re.sub(r"^\.+|[. ]+$", "_", text) or "_"


def shortened(name: str, ending: str = "") -> str:
    """The name, with an ending that it keeps, short enough for a file system."""
    while len(os.fsencode(name + ending)) > _LONGEST:
        name, ending = (name[:-1], ending) if name else ("", ending[:-1])
    return name + ending
