"""A row -> the paths that its image should have in the folder, and the free names it may have instead."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, group_finder, grouped
from dinoclassify.results.image_file import FindFile, current_file
from dinoclassify.results.only import Only
from dinoclassify.results.sort.layout import Layout, safe_name, shorten
from dinoclassify.types.prediction import Label, Prediction

_DIGITS = (8, 16, 64)  # hexadecimal digits of the content's digest that follow a name, tried in this order

Namer = Callable[[str, int], str]
GroupsOf = Callable[[Prediction], list[tuple[Label, Label]]]


def ungrouped(row: Prediction) -> list[tuple[Label, Label]]:
    """Each label of a row as a group of its own."""
    return [(rank, rank) for rank in row.top]


def grouped_by(groups: Groups | None, *, multi_label: bool) -> GroupsOf:
    """A function that gives the groups of a row, best first, each with the best of its labels; see `grouped`."""
    if groups is None:
        return ungrouped
    group_of = group_finder(groups)
    return lambda row: grouped(row, groups.names, group_of, multi_label=multi_label)


@dataclass(frozen=True, slots=True)
class SortOptions:
    """Which images are sorted, and where each goes.

    Args:
        layout: the targets of images with a label: one, or with the field ``{rank}`` one for each rank of the row.
        groups_of: gives the groups of a row, best first, each with the best of its labels. Scores and ranks are those
            of the groups. By default each label is a group.
        min_score: images with a lower score are uncertain.
        uncertain_to, failed_to: the folders of uncertain and of failed images; None leaves them alone.
        only: the labels and groups whose images are sorted; None for all.
        with_companions: the companions of images go along, see `results.companions`.

    Raises:
        UsageError: ``uncertain_to`` or ``failed_to`` is not the name of a folder.
    """

    layout: Layout
    groups_of: GroupsOf = ungrouped
    min_score: float = 0.0
    uncertain_to: str | None = None
    failed_to: str | None = None
    only: Only | None = None
    find: FindFile = current_file
    with_companions: bool = False

    def __post_init__(self) -> None:
        for option, name in (("--uncertain-to", self.uncertain_to), ("--failed-to", self.failed_to)):
            if name is not None and safe_name(name) != name:
                raise UsageError(f"{option} {name}: choose the plain name of a folder, such as {safe_name(name)}")


def targets_of(
    row: Prediction, source: str, options: SortOptions, class_name: Namer, group_name: Namer
) -> list[str] | Literal["uncertain", "failed", "other"]:
    """The targets of a row's image, as paths relative to the folder; or why the image is left alone."""
    name = os.path.basename(source)
    if row.status == "failed":
        return "failed" if options.failed_to is None else [os.path.join(options.failed_to, name)]
    ranks = list(enumerate(options.groups_of(row), start=1))[: None if options.layout.uses("rank") else 1]
    if (only := options.only) is not None:
        is_wanted = [(only.wants(group.label), only.wants(label.label)) for _, (group, label) in ranks]
        ranks = [rank for rank, either in zip(ranks, is_wanted, strict=True) if any(either)]
        if not ranks:
            return "other"
    certain = [rank for rank in ranks if rank[1][0].score >= options.min_score]
    if row.status == "uncertain" or not certain:
        return "uncertain" if options.uncertain_to is None else [os.path.join(options.uncertain_to, name)]
    stem, suffix = os.path.splitext(name)
    parent = os.path.basename(os.path.dirname(source)) or "_"
    of_row = {"name": name, "stem": stem, "suffix": suffix, "parent": parent, "status": row.status}
    targets = []
    for number, (group, label) in certain:
        names = {"label": class_name(label.label, label.index), "group": group_name(group.label, group.index)}
        targets.append(options.layout.fill(of_row | names | {"score": f"{group.score:.4f}", "rank": str(number)}))
    return targets


def candidate_targets(preferred: str, source: str, companions: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The targets that an image may have, best first, each with those of its companions.

    The first is the preferred one; in others, digits of the content's SHA-256 follow the stem. In the name of a
    companion, the new stem of the image takes the place of the old one.

    Raises:
        OSError: the image cannot be read.
    """
    folder, name = os.path.split(preferred)
    stem, suffix = os.path.splitext(os.path.basename(source))
    new_stem = name.removesuffix(suffix)
    endings = [name[len(new_stem) :], *(companion.removeprefix(stem) for companion in companions)]
    longest = max(endings, key=lambda ending: len(os.fsencode(ending)))
    for mark in _marks(source):
        short = shorten(new_stem, mark + longest).removesuffix(longest)
        image, *others = (os.path.join(folder, short + ending) for ending in endings)
        yield image, others


def _marks(source: str) -> Iterator[str]:
    """Yield suffixes for the stem of a name: first none, then longer and longer prefixes of the file's SHA-256."""
    yield ""
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for digits in _DIGITS:
        yield f"-{digest[:digits]}"
