"""What all formats share: the content of a sidecar, and the names of labels in it."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from dinoclassify.labels.imagenet import short_name
from dinoclassify.types.prediction import Label


class SidecarError(Exception):
    """Why a sidecar is left alone. The message completes a sentence that starts with the file name."""


@dataclass(frozen=True, slots=True)
class SidecarContent:
    """The labels that a sidecar should have, best first; labels of earlier runs are removed.

    ``ranks`` are all labels of the row, to be removed; empty if labels are written. ``prefix`` is the root of our
    labels in a tree of keywords.
    """

    labels: tuple[Label, ...]
    ranks: tuple[Label, ...]
    prefix: str


def words(labels: Iterable[Label]) -> list[str]:
    """The names of labels, without synonyms, line ends and duplicates."""
    names = (one_line(short_name(label.label, label.index)) for label in labels)
    return list(dict.fromkeys(name for name in names if name))


def one_line(name: str) -> str:
    """The name without line ends and other characters that XML or a line of text cannot hold."""
    return " ".join("".join(" " if _breaks(character) else character for character in name).split())


def _breaks(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in "\ufffe\uffff"
