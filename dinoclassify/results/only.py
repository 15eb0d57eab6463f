"""``--only``: the rows of some labels or groups."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import EVERYDAY, Groups, read_groups
from dinoclassify.labels.imagenet import are_imagenets, imagenet_labels, plain
from dinoclassify.messages import name_some


@dataclass(slots=True)
class Only:
    """Names of labels or groups, as a user wrote them; if ``are_known``, each was checked to be one.

    A name means a label as it is shown, in any case and with underscores for spaces, or one of its synonyms: ``tench``
    means ``tench, Tinca tinca``.
    """

    names: tuple[str, ...]
    are_known: bool
    _seen: dict[str, bool] = field(default_factory=dict)

    def wants(self, label: str) -> bool:
        """Whether a label or group is among the names."""
        if label not in self._seen:
            self._seen[label] = not _meanings([label]).isdisjoint(map(plain, self.names))
        return self._seen[label]

    def trouble(self) -> str | None:
        """A warning about names that no label passed to `wants` had; None if there are none."""
        meanings = _meanings(self._seen)
        missing = [name for name in self.names if plain(name) not in meanings]
        if not missing:
            return None
        near = "" if self.are_known else _nearest(missing, self._seen)
        return f"--only {name_some(missing)}{near}: no row has it"


def choose(names: Sequence[str], labels: Mapping[int, str], groups: Groups | None) -> Only:
    """The selection of some labels and groups.

    ``labels`` are those of the rows by index, as far as they are known, and ``groups`` those of ``--groups``, if given.

    Raises:
        UsageError: a name is empty; or all labels are known, and the name is none of them.
    """
    if not all(map(str.strip, names)):
        raise UsageError("--only: name a label or a group")
    known, are_all = dict.fromkeys(labels.values()), False  # of the rows first: a user is more likely to mean them
    everyday, is_imagenet = read_groups(EVERYDAY).names, are_imagenets(labels)
    for more, fits in (
        ((*groups.names, *groups.classes) if groups is not None else (), groups is not None),
        (imagenet_labels(), is_imagenet),
        (everyday, bool(labels) and labels.items() <= dict(enumerate(everyday)).items()),
    ):
        if fits:
            known, are_all = known | dict.fromkeys(more), True
    meanings = _meanings(known)
    if are_all and (unknown := [name for name in names if plain(name) not in meanings]):
        near = _nearest(unknown, known)
        cure = _where_to_look(unknown[0], groups, is_imagenet=is_imagenet, is_suggested=bool(near))
        raise UsageError(f"--only {name_some(unknown)}{near}: there is no such label or group{cure}")
    return Only(tuple(names), are_all)


def _meanings(labels: Iterable[str]) -> set[str]:
    """All names that mean one of the labels, in the form that comparisons use."""
    return {plain(name) for label in labels for name in (label, *label.split(","))}


def _where_to_look(name: str, groups: Groups | None, *, is_imagenet: bool, is_suggested: bool) -> str:
    """Where there is a group that an unknown name may mean; empty if it ``is_suggested`` to mean another."""
    if is_imagenet and groups is None:
        everyday = {plain(group): group for group in read_groups(EVERYDAY).names}
        meant = difflib.get_close_matches(plain(name), everyday, n=1)
        if meant and (not is_suggested or meant[0] == plain(name)):
            return f"; sort --groups {EVERYDAY} has a group {everyday[meant[0]]}"
    if is_suggested:
        return ""
    place = groups.source if groups is not None and groups.source != EVERYDAY else "dinoclassify guide groups"
    return f"; {place} lists the groups"


def _nearest(names: Sequence[str], labels: Iterable[str]) -> str:
    """`` (did you mean ...?)`` for the first name: a label that has the word, else the one spelt most like it."""
    name, by_meaning = plain(names[0]), {meaning: label for label in labels for meaning in _meanings([label])}
    matches = [meaning for meaning in by_meaning if f" {name} " in f" {meaning} "]
    matches += difflib.get_close_matches(name, by_meaning, n=1)
    return f" (did you mean {by_meaning[matches[0]]}?)" if matches else ""
