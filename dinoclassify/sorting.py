"""Rows -> pictures in one folder for each label: copied, moved or linked, with a journal by which it can be undone."""

import errno
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dinoclassify.attributes import listed, lost, rights_of
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.files import FULL, Signature, reporting, signature
from dinoclassify.layout import Layout, folder_namer, safe_name, shortened
from dinoclassify.missing import check_into
from dinoclassify.only import Only
from dinoclassify.predictions import GONE, FindFile, current_file, why_stale
from dinoclassify.rows import Label, Prediction
from dinoclassify.signing import make_key
from dinoclassify.transfers import TRANSFERS, Mode, identity, is_same, unfinished_name
from dinoclassify.undo_journal import NAME, Entry, open_run, read_journal, standing, write_ahead
from dinoclassify.undoing import finish

log = logging.getLogger(__name__)

Done = Literal["done", "there", "moved", "uncertain", "failed", "other", "gone", "changed", "back", "error"]

BATCH = 100  # rows between two times that the journal is forced onto the disk
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_DIGITS = (8, 16, 64)  # of the digest behind a name that is taken: as many as make it free

Namer = Callable[[str, int], str]
Grouped = Callable[[Prediction], list[tuple[Label, Label]]]


def ungrouped(row: Prediction) -> list[tuple[Label, Label]]:
    """Each label of a row as a group of its own."""
    return [(rank, rank) for rank in row.top]


@dataclass(frozen=True, slots=True)
class Rules:
    """Which picture goes where.

    layout: where pictures with a label go; with the field ``{rank}`` to as many places as their rows have ranks.
    grouped: gives the groups of a row, best first, each with the best of its classes: for ``{group}`` and ``{label}``.
        Scores and ranks are those of groups. By default each class is a group.
    min_score: what is below counts as uncertain.
    uncertain_to: the folder of those; None leaves them alone.
    failed_to: the folder of those that failed; None leaves them alone.
    only: the labels and groups whose pictures are taken; None for all.
    find: gives the file of a row, see `dinoclassify.predictions.file_finder`.

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

    def __post_init__(self) -> None:
        for option, name in (("--uncertain-to", self.uncertain_to), ("--failed-to", self.failed_to)):
            if name is not None and safe_name(name) != name:
                raise UsageError(f"{option} {name}: choose the plain name of a folder, such as {safe_name(name)}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a picture, where it is in the folder, and why not.

    ``done``; ``there``: it was there already, or another with the same content is; ``moved``: an earlier run or row has
    moved it; ``uncertain``, ``failed`` and ``other``: left alone, as the rules have it; ``gone`` and ``changed``, since
    it was labelled; ``back``: at its old place once more, after it was moved; ``error``.
    """

    path: str
    done: Done
    target: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A picture: as in its row, as a file, its signature; the path in the folder that it should, and will, have.

    ``twin``: another with the same content, or itself by another row, is to have that path, and nothing is to be done
    once it has.
    """

    path: str
    source: str
    was: Signature
    wanted: str
    target: str
    twin: bool = False


class SortedFolder:
    """The folder into which pictures are sorted, with its journal.

    Args:
        folder: its path.
        mode: how pictures get there.
        made: folders that had to be made for it, see `make_folder`.
        dry_run: say what would be done, and do nothing.
        resume: go on after a run that did not come to its end.

    Raises:
        UsageError: there was such a run, and it is not to be resumed; or the journal cannot be read.
    """

    def __init__(
        self, folder: str, mode: Mode, *, made: Sequence[str] = (), dry_run: bool = False, resume: bool = False
    ) -> None:
        self._folder, self._mode, self._dry_run = os.path.abspath(folder), mode, dry_run
        self._journal = os.path.join(self._folder, NAME)
        self._key = None if dry_run else _key()
        journal = read_journal(self._journal, self._key)
        self._is_own, earlier = journal.is_own, journal.entries
        if not self._is_own and self._key is not None:
            log.warning("%s is not known to be yours: --undo will need --to", self._journal)
        self._unfinished = open_run(earlier)
        if self._unfinished and not resume:
            cure = f"--resume goes on with it, --undo {os.path.join(folder, NAME)} takes it back"
            raise UsageError(f"what was begun in {folder} did not come to its end: {cure}")
        self._moved = {entry.source for entry in standing(earlier) if entry.event == "move"}
        self._planned: dict[str, str] = {}  # what is not done yet: targets, with their sources
        self._entries: dict[str, Entry] = {}  # likewise, with their lines in the journal
        self._has_warned = False  # of what the file system does not keep
        self._leaving: set[str] = set()  # sources of planned moves
        self._folders: set[str] = set()  # those that are there, or planned
        self._ahead = [Entry("mkdir", path) for path in made]  # for the journal, once there is something for it

    @property
    def is_signed(self) -> bool:
        """Whether the journal will be known as the user's own."""
        return self._is_own and self._key is not None

    def sort(self, rows: Iterable[Prediction], rules: Rules, *, batch: int = BATCH) -> Iterator[Outcome]:
        """Put pictures where they should be, or under a name beside it that is free. Gives one outcome for each place.

        What an unfinished run has left is brought into order first. The run has come to its end with the last row.

        Args:
            rows: of the pictures.
            rules: which goes where.
            batch: rows whose pictures are written to the journal together, before the first of them is touched.

        Raises:
            OutputError: the journal cannot be written, or the disk is full.
        """
        if not self._dry_run:
            for entry in finish(self._folder, self._unfinished, is_own=self._is_own):
                why = f"is there again since it was moved to {os.path.join(self._folder, entry.target)}, and stays"
                yield Outcome(entry.source, "back", entry.target, why)
        class_name, group_name = folder_namer(), folder_namer()
        begun, remaining = bool(self._unfinished), iter(rows)
        while some := list(itertools.islice(remaining, batch)):
            plans = [plan for row in some for plan in self._plan_row(row, rules, class_name, group_name)]
            begun |= self._write_ahead([plan for plan in plans if isinstance(plan, _Plan) and not plan.twin])
            for plan in plans:
                yield plan if isinstance(plan, Outcome) else self._carry_out(plan)
            if not self._dry_run:
                self._planned.clear()
                self._entries.clear()
                self._leaving.clear()
        if begun and not self._dry_run:
            write_ahead(self._journal, [Entry("end")], key=self._key)

    def _plan_row(self, row: Prediction, rules: Rules, class_name: Namer, group_name: Namer) -> list[_Plan | Outcome]:
        """What to do with the picture of a row, for each place where it should be."""
        picture = rules.find(row)
        source = _resolved(picture)
        targets = _targets(row, source, rules, class_name, group_name)
        if isinstance(targets, str):
            return [Outcome(row.path, targets)]
        if source in self._leaving:
            return [_Plan(row.path, source, signature(source), targets[0], targets[0], twin=True)]
        if source in self._moved and not os.path.lexists(source):
            return [Outcome(row.path, "moved")]
        if (why := why_stale(row, picture)) is not None:
            return [Outcome(row.path, "gone" if why == GONE else "changed", why=why)]
        if self._mode == "move" and os.path.islink(source):
            return [Outcome(row.path, "error", why="is a symbolic link, which is not moved: take another --mode")]
        was = signature(source)
        try:
            return [self._plan(row.path, source, was, target) for target in targets]
        except OSError as error:
            return [Outcome(row.path, "error", why=f"cannot be read: {error.strerror or error}")]

    def _plan(self, path: str, source: str, was: Signature, wanted: str) -> _Plan | Outcome:
        """The first free name for a picture; or that it is there already, under the name that it would have."""
        for target in _names(wanted, source):
            there = os.path.join(self._folder, target)
            if target == NAME:
                continue
            if target in self._planned and is_same(source, self._planned[target]):
                return _Plan(path, source, was, wanted, target, twin=True)
            if os.path.lexists(there) and is_same(source, there):
                return Outcome(path, "there", target)
            if target not in self._planned and not os.path.lexists(there):
                self._planned[target] = source
                if self._mode == "move":
                    self._leaving.add(source)
                return _Plan(path, source, was, wanted, target)
        return Outcome(path, "error", why=f"finds no free name like {wanted}")

    def _write_ahead(self, plans: Sequence[_Plan]) -> bool:
        """Write to the journal what is about to be done, folders before their pictures; gives whether there is any."""
        if self._dry_run or not plans:
            return False
        entries, self._ahead = self._ahead, []
        for plan in plans:
            for folder in _above(plan.target):
                if folder not in self._folders:
                    self._folders.add(folder)
                    if not os.path.lexists(os.path.join(self._folder, folder)):
                        entries.append(Entry("mkdir", folder))
            entry = Entry(self._mode, plan.target, plan.source, plan.was, unfinished_name())
            if self._mode == "move" and os.path.lexists(plan.source):
                entry = replace(entry, identity=identity(plan.source), rights=rights_of(plan.source))
            self._entries[plan.target] = entry
            entries.append(entry)
        write_ahead(self._journal, entries, key=self._key)
        return True

    def _carry_out(self, plan: _Plan) -> Outcome:
        if plan.twin and plan.source in self._leaving and (self._dry_run or not os.path.lexists(plan.source)):
            return Outcome(plan.path, "moved")
        if plan.twin and (self._dry_run or is_same(plan.source, os.path.join(self._folder, plan.target))):
            return Outcome(plan.path, "there", plan.target)
        if self._dry_run:
            return Outcome(plan.path, "done", plan.target)
        if plan.twin:
            return self._plan_again(plan)  # the other has not got there
        if signature(plan.source) != plan.was:
            return self._leave(plan, "changed", "has changed just now")
        target = os.path.join(self._folder, plan.target)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            TRANSFERS[self._mode](plan.source, target, self._entries[plan.target].made)
        except FileExistsError as error:
            return self._try_again(plan, error)
        except OSError as error:
            return self._leave(plan, "error", self._why_not(plan, error))
        if self._mode == "move":
            self._moved.add(plan.source)
            self._warn_of_losses(self._entries[plan.target], target)
        return Outcome(plan.path, "done", plan.target)

    def _warn_of_losses(self, entry: Entry, target: str) -> None:
        """Say once what the file system of the folder does not keep of images that are moved there."""
        if self._has_warned or not (missing := lost(target, entry.was, entry.rights)):
            return
        self._has_warned = True
        cure = "--undo, run by root, restores them" if "owners" in missing and os.geteuid() else "--undo restores them"
        log.warning("%s does not keep the exact %s of images: %s", self._folder, listed(missing), cure)

    def _why_not(self, plan: _Plan, error: OSError) -> str:
        """What kept a picture from its place.

        Raises:
            OutputError: the disk is full.
        """
        why, target = error.strerror or str(error), os.path.join(self._folder, plan.target)
        if self._mode == "move" and error.errno in _FORBIDDEN and os.access(os.path.dirname(target), os.W_OK | os.X_OK):
            cure = "let this user write there, or take another --mode"
            return f"cannot be taken out of {os.path.dirname(plan.source)} ({why}): {cure}"
        if error.errno in FULL:
            raise OutputError(f"cannot write {target}: {why}") from error
        if error.errno == errno.EXDEV:
            why = "that is another file system, and has no hard links to this one: take another --mode"
        return f"cannot be put there: {why}"

    def _try_again(self, plan: _Plan, error: OSError) -> Outcome:
        """Find another name: somebody was faster, or the file system takes two names for the same."""
        left = self._leave(plan, "error", f"cannot be put there: {error.strerror}: {error.filename}")
        is_taken = os.path.lexists(os.path.join(self._folder, plan.target))  # or a folder could not be made
        return self._plan_again(plan) if is_taken else left

    def _leave(self, plan: _Plan, done: Done, why: str) -> Outcome:
        """Leave a picture where it is, although the journal has it otherwise."""
        write_ahead(self._journal, [Entry("void", plan.target, made=self._entries[plan.target].made)], key=self._key)
        return Outcome(plan.path, done, plan.target, why)

    def _plan_again(self, plan: _Plan) -> Outcome:
        self._planned.pop(plan.target, None)
        again = self._plan(plan.path, plan.source, plan.was, plan.wanted)
        if isinstance(again, Outcome):
            return again
        if not again.twin:
            self._write_ahead([again])
        return self._carry_out(again)


def _key() -> bytes | None:
    try:
        return make_key()
    except OSError as error:
        why = f"{error.filename or 'the state folder'}: {error.strerror or error}"
        log.warning("the journal cannot be signed (%s): --undo will need --to", why)
        return None


def _targets(
    row: Prediction, source: str, rules: Rules, class_name: Namer, group_name: Namer
) -> list[str] | Literal["uncertain", "failed", "other"]:
    """The paths that the picture of a row should have in the folder, or why it is left alone."""
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


def _names(wanted: str, source: str) -> Iterator[str]:
    """The path that a picture should have, and others like it that follow from its content."""
    yield wanted
    folder, name = os.path.split(wanted)
    stem, suffix = os.path.splitext(name)
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for digits in _DIGITS:
        yield os.path.join(folder, shortened(stem, f"-{digest[:digits]}{suffix}"))


def _above(target: str) -> list[str]:
    """The folders that a path goes through, the first first."""
    names = target.split("/")[:-1]
    return ["/".join(names[:count]) for count in range(1, len(names) + 1)]


def _resolved(path: str) -> str:
    """The absolute path of a file, with no links in it but itself."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def make_folder(folder: str) -> list[str]:
    """Make a folder, and those above it; gives those that were not there, the first above the next.

    Raises:
        UsageError: it is a file.
        OutputError: it cannot be made.
    """
    check_into(folder)
    missing: list[str] = []
    above = os.path.abspath(folder)
    while not os.path.lexists(above):
        missing.insert(0, above)
        above = os.path.dirname(above)
    with reporting(folder):
        os.makedirs(folder, exist_ok=True)
    return missing
