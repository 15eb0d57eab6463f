"""The classes of ImageNet-1k: their labels and WordNet ids, and whether a model's classes are these."""

import csv
import io
from collections.abc import Mapping, Sequence
from functools import cache

_ALIKE = 0.9  # share of labels that agree, from which on classes count as ImageNet's


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet-1k labels: the lemmas of their WordNet 3.0 synsets, in the order of the class index."""
    return tuple(row["label"] for row in _classes())


def imagenet_ids(labels: Sequence[str]) -> tuple[str, ...]:
    """The WordNet ids of the classes, if they are those of ImageNet-1k in its order; else none."""
    rows = _classes()
    fits = len(labels) == len(rows) and are_imagenets(dict(enumerate(labels)))
    return tuple(row["wnid"] for row in rows) if fits else ()


def are_imagenets(labels: Mapping[int, str]) -> bool:
    """Whether labels, by index, are those of ImageNet-1k: nearly all must agree, as models spell some differently."""
    rows = _classes()
    if not labels or max(labels) >= len(rows):
        return False
    alike = sum(_first_word(label) == _first_word(rows[index]["label"]) for index, label in labels.items())
    return alike >= _ALIKE * len(labels)


def short_name(label: str, index: int) -> str:
    """The first of the synonyms in an ImageNet label; any other label unchanged."""
    return label.split(",")[0] if are_imagenets({index: label}) else label


def plain(name: str) -> str:
    """The name in the form in which names are compared: no case, no underscores."""
    return " ".join(name.replace("_", " ").casefold().split())


@cache
def _classes() -> list[dict[str, str]]:
    from importlib import resources  # slow to import, for what needs no names

    text = resources.files("dinoclassify.labels").joinpath("imagenet_labels.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _first_word(label: str) -> str:
    return plain(label.split(",")[0])
