"""What people call classes -> the classes of a model: by label, index or WordNet id."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources

from dinoclassify.errors import UsageError
from dinoclassify.messages import name_some

_ALIKE = 0.9  # the share of ImageNet's names, in its order, from which on the classes are ImageNet's


def match_classes(names: Iterable[str], labels: Sequence[str], model: str, *, all_known: bool = True) -> dict[str, int]:
    """The index of the class that each name means.

    A name is a label as it is written or but for case and underscores, a WordNet id (``n01440764``) if the labels are
    those of ImageNet-1k, an index if no label is a number itself, or one of the words of a label with commas (``tench``
    of ``tench, Tinca tinca``).

    Args:
        names: what people wrote.
        labels: the name of each class, by index; empty where it is not known.
        model: what has these classes, for messages.
        all_known: these are all classes that there are; else names that mean none of them are left out, and one word of
            a label is not taken for it: there may be another class of that name.

    Raises:
        UsageError: a name means more than one of the classes or, of all classes, none.
    """
    readings = _readings(labels)[: None if all_known else -1]
    found: dict[str, int] = {}
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        meant = next((reading[key] for reading in readings if (key := plain(name)) in reading), set())
        exact = {index for index in meant if labels[index] == name} or meant
        if not exact:
            unknown.append(name)
        elif len(exact) > 1:
            numbers = " and ".join(map(str, sorted(exact)))
            raise UsageError(f"{name} is the name of classes {numbers} of {model}: write an index, or a WordNet id")
        else:
            found[name] = min(exact)
    if unknown and all_known:
        are = "is" if len(unknown) == 1 else "are"
        raise UsageError(
            f"{name_some(unknown)} {are} not among the {len(labels):,} classes of {model}: "
            "name classes by label, index or, of ImageNet, WordNet id"
        )
    return found


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet-1k class names: the lemmas of their WordNet 3.0 synsets, in the order of the class index."""
    return tuple(row["label"] for row in _imagenet())


def are_imagenets(labels: Mapping[int, str]) -> bool:
    """Whether labels, by index, are among those of ImageNet-1k: nearly all, since not all models spell them alike."""
    rows = _imagenet()
    if not labels or max(labels) >= len(rows):
        return False
    alike = sum(_first_word(label) == _first_word(rows[index]["label"]) for index, label in labels.items())
    return alike >= _ALIKE * len(labels)


def short_name(label: str, index: int) -> str:
    """The first of the synonyms that ImageNet has for a class; any other label as it is."""
    return label.split(",")[0] if are_imagenets({index: label}) else label


def imagenet_ids(labels: Sequence[str]) -> tuple[str, ...]:
    """The WordNet ids of the classes, if they are those of ImageNet-1k in its order; else none."""
    rows = _imagenet()
    fits = len(labels) == len(rows) and are_imagenets(dict(enumerate(labels)))
    return tuple(row["wnid"] for row in rows) if fits else ()


def plain(name: str) -> str:
    """The name in the form in which names are compared: no case, no underscores."""
    return " ".join(name.replace("_", " ").casefold().split())


@cache
def _imagenet() -> list[dict[str, str]]:
    text = resources.files("dinoclassify.labels").joinpath("imagenet_labels.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _readings(labels: Sequence[str]) -> list[Mapping[str, set[int]]]:
    """What a name can mean, the likeliest first: name -> classes."""
    numbered = any(label.isdecimal() for label in labels)
    return [
        _by_name((label, index) for index, label in enumerate(labels) if label),
        _by_name((wnid, index) for index, wnid in enumerate(imagenet_ids(labels))),
        _by_name((str(index), index) for index in range(0 if numbered else len(labels))),
        _by_name((word, index) for index, label in enumerate(labels) for word in label.split(",") if word),
    ]


def _by_name(named: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name, index in named:
        found.setdefault(plain(name), set()).add(index)
    return found


def _first_word(label: str) -> str:
    return plain(label.split(",")[0])
