"""A row -> the paths that its image should have in the folder, and the names that it may have there instead."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dinoclassify.errors import UsageError
from dinoclassify.results.only import Only
from dinoclassify.results.reader import FindFile, current_file
from dinoclassify.results.sort.layout import Layout, safe_name, shortened
from dinoclassify.types.prediction import Label, Prediction

_DIGITS = (8, 16, 64)  # of the digest behind a name that is taken: as many as make it free

Namer = Callable[[str, int], str]
Grouped = Callable[[Prediction], list[tuple[Label, Label]]]


def ungrouped(row: Prediction) -> list[tuple[Label, Label]]:
    """Each label of a row as a group of its own."""
    return [(rank, rank) for rank in row.top]


@dataclass(frozen=True, slots=True)
class Rules:
    """Which image goes where.

    layout: where images with a label go; with the field ``{rank}`` to as many places as their rows have ranks.
    grouped: gives the groups of a row, best first, each with the best of its classes: for ``{group}`` and ``{label}``.
        Scores and ranks are those of groups. By default each class is a group.
    min_score: what is below counts as uncertain.
    uncertain_to: the folder of those; None leaves them alone.
    failed_to: the folder of those that failed; None leaves them alone.
    only: the labels and groups whose images are taken; None for all.
    find: gives the file of a row, see `results.reader.file_finder`.
    with_companions: their RAW, sidecars and the like go along with images, see `results.companions`.

    Raises:
        UsageError: those two are no names of folders.
    """

    layout: Layout
    grouped: Grouped = ungrouped
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
    row: Prediction, source: str, rules: Rules, class_name: Namer, group_name: Namer
) -> list[str] | Literal["uncertain", "failed", "other"]:
    """The paths that the image of a row should have in the folder, or why it is left alone."""
    name = os.path.basename(source)
    if row.status == "failed":
        return "failed" if rules.failed_to is None else [os.path.join(rules.failed_to, name)]
    ranks = list(enumerate(rules.grouped(row), start=1))[: None if rules.layout.uses("rank") else 1]
    if (only := rules.only) is not None:
        wanted = [(only.wants(group.label), only.wants(label.label)) for _, (group, label) in ranks]
        ranks = [rank for rank, either in zip(ranks, wanted, strict=True) if any(either)]
        if not ranks:
            return "other"
    best = [rank for rank in ranks if rank[1][0].score >= rules.min_score]
    if row.status == "uncertain" or not best:
        return "uncertain" if rules.uncertain_to is None else [os.path.join(rules.uncertain_to, name)]
    stem, suffix = os.path.splitext(name)
    parent = os.path.basename(os.path.dirname(source)) or "_"
    of_row = {"name": name, "stem": stem, "suffix": suffix, "parent": parent, "status": row.status}
    targets = []
    for number, (group, label) in best:
        names = {"label": class_name(label.label, label.index), "group": group_name(group.label, group.index)}
        targets.append(rules.layout.fill(of_row | names | {"score": f"{group.score:.4f}", "rank": str(number)}))
    return targets


def places_of(wanted: str, source: str, companions: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The path that an image should have, and others that follow from its content, with those of its companions.

    Companions are called like the image there, too: what their names have behind its stem is behind the new one.

    Raises:
        OSError: it cannot be read.
    """
    folder, name = os.path.split(wanted)
    stem, suffix = os.path.splitext(os.path.basename(source))
    new_stem = name.removesuffix(suffix)
    endings = [name[len(new_stem) :], *(companion.removeprefix(stem) for companion in companions)]
    longest = max(endings, key=lambda ending: len(os.fsencode(ending)))
    for mark in _marks(source):
        short = shortened(new_stem, mark + longest).removesuffix(longest)
        image, *others = (os.path.join(folder, short + ending) for ending in endings)
        yield image, others


def _marks(source: str) -> Iterator[str]:
    """What is put behind the stem of a name: nothing, or digits of the content's digest."""
    yield ""
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for digits in _DIGITS:
        yield f"-{digest[:digits]}"


def folders_of(target: str) -> list[str]:
    """The folders that a path goes through, the first first."""
    names = target.split("/")[:-1]
    return ["/".join(names[:count]) for count in range(1, len(names) + 1)]
