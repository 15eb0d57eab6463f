"""The names that people write -> the classes of a model: by label, index or WordNet id."""

import math
from collections.abc import Iterable, Mapping, Sequence

from dinoclassify.errors import UsageError
from dinoclassify.labels.imagenet import imagenet_ids, plain
from dinoclassify.messages import name_some


def match_classes(names: Iterable[str], labels: Sequence[str], model: str, *, all_known: bool = True) -> dict[str, int]:
    """The index of the class that each name means.

    A name is one of these; the first that fits counts:

    - a label, exactly or but for case and underscores
    - a label that is a number, without its ``.0``
    - a WordNet id (``n01440764``), if the labels are those of ImageNet-1k
    - an index, unless some label is a number itself
    - one of the words of a label with commas (``tench`` of ``tench, Tinca tinca``)

    ``labels`` has the name of each class, by index; empty where it is unknown. If not ``all_known``, names that match
    none are left out, and one word of a label does not count as its name: an unknown class may have that name. Raises
    UsageError if a name means several classes or, if all classes are known, none.
    """
    readings = _readings(labels)[: None if all_known else -1]
    matches: dict[str, int] = {}
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        indices = next((reading[key] for reading in readings if (key := plain(name)) in reading), set())
        indices = {index for index in indices if labels[index] == name} or indices
        if not indices:
            unknown.append(name)
        elif len(indices) > 1:
            numbers = " and ".join(map(str, sorted(indices)))
            raise UsageError(f"{name} is the name of classes {numbers} of {model}: write an index, or a WordNet id")
        else:
            (matches[name],) = indices
    if unknown and all_known:
        are = "is" if len(unknown) == 1 else "are"
        raise UsageError(
            f"{name_some(unknown)} {are} not among the {len(labels):,} classes of {model}: "
            "name classes by label, index or, of ImageNet, WordNet id"
        )
    return matches


def is_number(name: str) -> bool:
    """Whether the name of a class is a number, such as 1, -1, 1.0 or 1e3; the words nan and infinity are names."""
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _readings(labels: Sequence[str]) -> list[Mapping[str, set[int]]]:
    """The ways to read a name, the likeliest first: plain name -> indices of classes."""
    numbers = [(label, index) for index, label in enumerate(labels) if is_number(label)]
    return [
        _by_name((label, index) for index, label in enumerate(labels) if label),
        _by_name((label.removesuffix(".0"), index) for label, index in numbers),
        _by_name((wnid, index) for index, wnid in enumerate(imagenet_ids(labels))),
        _by_name((str(index), index) for index in range(0 if numbers else len(labels))),
        _by_name((word, index) for index, label in enumerate(labels) for word in label.split(",") if word),
    ]


def _by_name(named: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    indices: dict[str, set[int]] = {}
    for name, index in named:
        indices.setdefault(plain(name), set()).add(index)
    return indices
