"""Groups of classes, whose probabilities are summed: ``dog`` for all breeds of ImageNet.

A file of groups gives the group of each class, by label, index or WordNet id. All other classes are in the group
``other``.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from dinoclassify.errors import UsageError
from dinoclassify.labels.imagenet import are_imagenets, imagenet_labels, plain
from dinoclassify.labels.matching import is_number, match_classes
from dinoclassify.storage.missing import why_unread
from dinoclassify.types.prediction import Label, Prediction

EVERYDAY = "everyday"  # the built-in file: 22 groups of ImageNet's classes
OTHER = "other"

_KEYS = ("wnid", "index", "label")  # columns that name a class; the first one present counts


@dataclass(frozen=True, slots=True)
class Groups:
    """A file of groups: the name of each, by index, of which the last is `OTHER`.

    ``classes`` has the index of the group of each class, by the name of the class in the file, which is ``source``.
    """

    names: tuple[str, ...]
    classes: Mapping[str, int]
    source: str


def read_groups(name: str) -> Groups:
    """Read the groups ``everyday``, or a CSV file with a column ``group`` and one of ``wnid``, ``index``, ``label``.

    Raises UsageError if the file cannot be read, or puts a class into two groups.
    """
    from importlib import resources  # slow to import, for runs without groups

    own = resources.files("dinoclassify.labels").joinpath("everyday_groups.csv")
    try:
        with own.open(encoding="utf-8") if name == EVERYDAY else open(name, encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(file, name))
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, OSError):
            raise UsageError(why_unread("the groups", name, error, [EVERYDAY])) from error
        raise UsageError(f"cannot read the groups {name}: {error}") from error
    group_of: dict[str, str] = {}
    for key, group in rows:
        if group_of.setdefault(key, group) != group:
            raise UsageError(f"{name} puts {key} into {group_of[key]} and into {group}: leave one out")
    names = [group for group in dict.fromkeys(group_of.values()) if group != OTHER] + [OTHER]
    for group in names:
        if group_of.get(group, group) != group:
            raise UsageError(f"{name}: {group} is a group, and also a class in the group {group_of[group]}: rename one")
    return Groups(tuple(names), {key: names.index(group) for key, group in group_of.items()}, name)


def group_classes(groups: Groups, labels: Sequence[str], model: str, *, all_known: bool = True) -> list[int]:
    """The group of each class of a model, by their indices; for ``all_known`` see `labels.matching.match_classes`.

    ``labels`` has the names of the classes, by index. Raises UsageError if a class in the file is not among these, or
    is in two groups.
    """
    indices = match_classes(groups.classes, labels, f"{model}, which {groups.source} groups", all_known=all_known)
    group_of: dict[int, int] = {}
    for name, index in indices.items():
        if group_of.setdefault(index, groups.classes[name]) != groups.classes[name]:
            both = f"{groups.names[group_of[index]]} and into {groups.names[groups.classes[name]]}"
            raise UsageError(f"{groups.source} puts {name}, class {index} of {model}, into {both}: leave one out")
    return [group_of.get(index, len(groups.names) - 1) for index in range(len(labels))]


def match_groups(names: Sequence[str], groups: Groups, labels: Sequence[str], model: str) -> dict[str, int]:
    """The index of the group that each name means: the name of a group, or of a class in it.

    ``labels`` has the names of the classes, by index; empty where it is unknown. Raises UsageError if a name means no
    group, or several.
    """
    known = {plain(name): group for name, group in groups.classes.items()}
    known |= {plain(name): index for index, name in enumerate(groups.names)}
    matches = {name: known[plain(name)] for name in names if plain(name) in known}
    others = [name for name in names if name not in matches]
    if not others:
        return matches
    group_of = group_classes(groups, labels, model, all_known=all(labels))
    return matches | {name: group_of[index] for name, index in match_classes(others, labels, model).items()}


def group_finder(groups: Groups) -> Callable[[Label], int]:
    """A function from a label in a row, which may be a group already, to the index of its group.

    The function raises what `group_classes` raises, where the classes are ImageNet's.
    """
    by_group_name = {plain(name): index for index, name in enumerate(groups.names)}
    classes = {plain(name): group for name, group in groups.classes.items()}

    @cache
    def imagenet_groups() -> list[int]:
        return group_classes(groups, imagenet_labels(), "ImageNet")

    @cache
    def group_of(label: str, index: int) -> int:
        if plain(label) in by_group_name:
            return by_group_name[plain(label)]
        if are_imagenets({index: label}):
            return imagenet_groups()[index]
        names = (label, *([] if is_number(label) else [str(index)]), *label.split(","))
        return next((classes[plain(name)] for name in names if plain(name) in classes), len(groups.names) - 1)

    return lambda rank: group_of(rank.label, rank.index)


def grouped(
    row: Prediction, names: Sequence[str], group_of: Callable[[Label], int], *, multi_label: bool = False
) -> list[tuple[Label, Label]]:
    """The groups of the classes in a row, best first, each with the best of its classes.

    The score of a group is the sum over those of its classes that are in the row; if ``multi_label``, it is that of the
    best one, as in `pipeline.fold_into_groups`.
    """
    scores: dict[int, float] = {}
    best: dict[int, Label] = {}
    for rank in row.top:
        group = group_of(rank)
        best.setdefault(group, rank)
        scores[group] = best[group].score if multi_label else min(1.0, scores.get(group, 0.0) + rank.score)
    order = sorted(scores, key=lambda group: -scores[group])
    return [(Label(names[group], group, scores[group]), best[group]) for group in order]


def fold_ranks(
    row: Prediction, names: Sequence[str], group_of: Callable[[Label], int], *, multi_label: bool = False
) -> Prediction:
    """The row with groups in place of its classes; see `grouped`."""
    return replace(row, top=tuple(group for group, _ in grouped(row, names, group_of, multi_label=multi_label)))


def _rows(file: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    """Class and group in each row of a CSV file."""
    table = csv.DictReader(file, strict=True)
    columns = table.fieldnames or ()
    key = next((column for column in _KEYS if column in columns), None)
    if key is None or "group" not in columns:
        raise UsageError(f"{name} needs a column group, and a column wnid, index or label for the class")
    for row in table:
        class_name, group = (row[key] or "").strip(), (row["group"] or "").strip()
        if not class_name or not group:
            raise UsageError(f"{name}: line {table.line_num} lacks a class or its group: add it")
        yield class_name, group
