"""What the sidecar of an image is to say, whatever its format; the ground of the rooms beside this one."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from dinoclassify.labels.imagenet import short_name
from dinoclassify.types.prediction import Label


class SidecarError(Exception):
    """A sidecar that is left alone, with what is wrong: the message goes on where the file's name has stood."""


@dataclass(frozen=True, slots=True)
class SidecarContent:
    """The labels of an image that its sidecar is to have: none takes those of earlier runs out.

    Args:
        labels: best first.
        ranks: all labels of the row, if what earlier runs may have written is to be taken out; else none.
        prefix: the root of our labels in a tree of keywords.
    """

    labels: tuple[Label, ...]
    ranks: tuple[Label, ...]
    prefix: str


def words(labels: Iterable[Label]) -> list[str]:
    """The names of the labels, each on one line and once, and without synonyms, which have commas between."""
    names = (one_line(short_name(label.label, label.index)) for label in labels)
    return list(dict.fromkeys(name for name in names if name))


def one_line(name: str) -> str:
    """The name without line ends and what else neither XML nor a line of text can hold."""
    return " ".join("".join(" " if _breaks(character) else character for character in name).split())


def _breaks(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in "\ufffe\uffff"
