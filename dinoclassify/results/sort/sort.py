"""Rows -> images in one folder for each label: copied, moved or linked, with a journal by which it can be undone."""

import errno
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.results.companions import Companions, FindCompanions, companion_finder, is_image
from dinoclassify.results.reader import CHANGED, GONE, why_stale
from dinoclassify.results.shot_rows import together
from dinoclassify.results.sort.attributes import listed, lost, rights_of
from dinoclassify.results.sort.journal import NAME, Entry, open_run, read_journal, standing, write_ahead
from dinoclassify.results.sort.layout import folder_namer
from dinoclassify.results.sort.placing import Namer, Rules, folders_of, places_of, targets_of
from dinoclassify.results.sort.plans import CompanionRow, Done, File, Plan, SortResult
from dinoclassify.results.sort.signing import make_key
from dinoclassify.results.sort.transfer import TRANSFERS, Mode, identity, is_same, unfinished_name
from dinoclassify.results.sort.undo import KeptError, finish, take_back
from dinoclassify.storage.atomic import FULL, free_of_links
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Signature

log = logging.getLogger(__name__)

BATCH = 100  # rows, or shots of several rows, between two times that the journal is forced onto the disk
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

_PlanRow = Callable[[Prediction], list[Plan | CompanionRow | SortResult]]


class SortedFolder:
    """The folder into which images are sorted, with its journal.

    Args:
        folder: its path.
        mode: how images get there.
        made: folders that had to be made for it, see `results.sort.made_folders.make_folder`.
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
        self._along: dict[str, str] = {}  # images that go along with another, with that one
        self._by_stem: defaultdict[str, set[str]] = defaultdict(set)  # moved images that may have left something behind
        for entry in standing(self._unfinished):
            if entry.event == "move" and is_image(entry.source):
                self._by_stem[os.path.splitext(entry.source)[0]].add(os.path.basename(entry.source))
        self._shared: set[str] = set()  # companions that stay because several images share them
        self._stale: set[str] = set()  # images that have changed since they were labelled
        self._find: FindCompanions = lambda _: Companions()
        self._folders: set[str] = set()  # those that are there, or planned
        self._ahead = [Entry("mkdir", path) for path in made]  # for the journal, once there is something for it

    @property
    def is_signed(self) -> bool:
        """Whether the journal will be known as the user's own."""
        return self._is_own and self._key is not None

    def sort(
        self, rows: Iterable[Prediction], rules: Rules, *, batch: int = BATCH, shots: Mapping[str, int] | None = None
    ) -> Iterator[SortResult]:
        """Put images where they should be, or under a name beside it that is free. Gives one outcome for each place.

        What an unfinished run has left is brought into order first. The run has come to its end with the last row.

        Args:
            rows: of the images.
            rules: which goes where.
            batch: rows whose images are written to the journal together, before the first of them is touched.
            shots: how many rows there are of each, see `results.shot_rows.count_shots`; None if that is not known.

        Raises:
            OutputError: the journal cannot be written, or the disk is full.
        """
        if not self._dry_run:
            for entry in finish(self._folder, self._unfinished, is_own=self._is_own):
                why = f"is there again since it was moved to {os.path.join(self._folder, entry.target)}, and stays"
                yield SortResult(entry.source, "back", entry.target, why)
        if rules.with_companions:
            self._find = companion_finder(self._by_stem if self._mode == "move" else None)
        plan_row = partial(self._plan_row, rules=rules, class_name=folder_namer(), group_name=folder_namer())
        begun, remaining = bool(self._unfinished), together(rows, shots, rules.find)
        while some := list(itertools.islice(remaining, batch)):
            plans = [plan for few in some for plan in self._plan_rows(few, rules, plan_row, are_all=shots is not None)]
            begun |= self._write_ahead([plan for plan in plans if isinstance(plan, Plan)])
            for plan in plans:
                yield from self._follow(plan, plan_row)
            if not self._dry_run:
                self._planned.clear()
                self._entries.clear()
                self._leaving.clear()
        if begun and not self._dry_run:
            write_ahead(self._journal, [Entry("end")], key=self._key)

    def _plan_rows(
        self, rows: Sequence[Prediction], rules: Rules, plan_row: _PlanRow, *, are_all: bool
    ) -> list[Plan | CompanionRow | SortResult]:
        """What to do with the images of rows, which are of one shot if they are several.

        A failed row decides where a shot goes only if these are known to be all its rows, and all have failed.
        """
        for row in rows if len(rows) > 1 else ():
            if why_stale(row, image := rules.find(row)) not in (None, GONE):
                self._stale.add(free_of_links(image))
        labelled = [row for row in rows if row.status != "failed"]
        plans = [plan for row in labelled for plan in plan_row(row)]
        may_decide = are_all and not labelled
        for row in rows:
            if row.status == "failed":
                source = free_of_links(rules.find(row))
                is_free = may_decide or source in self._along or not self._is_of_shot(source)
                plans += plan_row(row) if is_free else [SortResult(row.path, "failed")]
        return plans

    def _is_of_shot(self, source: str) -> bool:
        try:
            return any(map(is_image, self._companions(source)))
        except OSError:
            return False

    def _plan_row(
        self, row: Prediction, *, rules: Rules, class_name: Namer, group_name: Namer
    ) -> list[Plan | CompanionRow | SortResult]:
        """What to do with the image of a row, for each place where it should be."""
        image = rules.find(row)
        source = free_of_links(image)
        if source in self._along:
            return [CompanionRow(row, source)]
        targets = targets_of(row, source, rules, class_name, group_name)
        if isinstance(targets, str):
            return [SortResult(row.path, targets)]
        if source in self._leaving:
            return [Plan(row.path, File(source, file_signature(source), targets[0]), targets[0], twin=True)]
        if source in self._moved and not os.path.lexists(source):
            return [SortResult(row.path, "moved")]
        if (why := why_stale(row, image)) is not None:
            if why == GONE:
                return [SortResult(row.path, "gone", why=why)]
            self._stale.add(source)
            return [SortResult(row.path, "changed", why=why)]
        if self._mode == "move" and os.path.islink(source):
            return [SortResult(row.path, "error", why="is a symbolic link, which is not moved: take another --mode")]
        try:
            was, companions = file_signature(source), self._companions(source)
            if stale := [name for name in companions if os.path.join(os.path.dirname(source), name) in self._stale]:
                return [SortResult(row.path, "changed", why=f"is left alone: its companion {stale[0]} {CHANGED}")]
            plans = [self._plan(row.path, source, was, target, companions) for target in targets]
            is_leaving = self._mode == "move" and source in self._leaving
            return [*plans, *(self._left_behind(row.path, source) if is_leaving else ())]
        except OSError as error:
            return [SortResult(row.path, "error", why=f"cannot be read: {error.strerror or error}")]

    def _companions(self, source: str) -> list[str]:
        """The names of the files that go along with an image, and with no other.

        Raises:
            OSError: its folder cannot be listed.
        """
        paths = [os.path.join(os.path.dirname(source), name) for name in self._find(source).names]
        free = [path for path in paths if path not in self._leaving and self._along.get(path, source) == source]
        return [os.path.basename(path) for path in free if os.path.lexists(path)]

    def _left_behind(self, path: str, source: str) -> Iterator[SortResult]:
        """Say once of each file that an image shares with others that it stays."""
        found, image = self._find(source), os.path.basename(source)
        for name in found.shared:
            self._by_stem[os.path.splitext(source)[0]].add(image)
            if os.path.lexists(file := os.path.join(os.path.dirname(source), name)) and file not in self._shared:
                self._shared.add(file)
                cure = f"call it {image}{os.path.splitext(name)[1]} if it is of that"
                why = f"is called like {listed(sorted([image, *found.alike]))}, and stays: {cure}"
                yield SortResult(os.path.join(os.path.dirname(path), name), "shared", why=why)

    def _plan(
        self, path: str, source: str, was: Signature, wanted: str, companions: Sequence[str]
    ) -> Plan | SortResult:
        """The first name that is free for an image and its companions; or that it is there already under its name.

        Raises:
            OSError: it cannot be read.
        """
        folder = os.path.dirname(source)
        others = [(other, file_signature(other)) for other in (os.path.join(folder, name) for name in companions)]
        for target, other_targets in places_of(wanted, source, companions):
            along = tuple(File(*other, place) for other, place in zip(others, other_targets, strict=True))
            plan = Plan(path, File(source, was, target), wanted, along)
            if NAME in (target, *other_targets):
                continue
            if target in self._planned and is_same(source, self._planned[target]):
                return replace(plan, twin=True)
            if is_same(source, self._place(target)):
                return self._plan_companions(plan)
            if all(map(self._is_free, (target, *other_targets))):
                return self._registered(plan)
        return SortResult(path, "error", why=f"finds no free name like {wanted}")

    def _plan_companions(self, plan: Plan) -> Plan | SortResult:
        """What to do with the companions of an image that is in the folder; where that is to be moved, it stays."""
        missing, why = [], ""
        for file in plan.companions if self._mode != "move" else ():
            if self._is_free(file.target):
                missing.append(file)
            elif not is_same(file.source, self._planned.get(file.target, self._place(file.target))):
                why = f"has a companion {os.path.basename(file.source)} unlike {self._place(file.target)}, which stays"
        self._note_shot(plan)
        if not missing:
            return replace(plan, companions=()).outcome("differs" if why else "there", why)
        return self._registered(replace(plan, companions=tuple(missing), is_there=True, why=why))

    def _registered(self, plan: Plan) -> Plan:
        """A plan whose names are given to no other."""
        self._planned.update((file.target, file.source) for file in plan.files)
        if self._mode == "move":
            self._leaving.update(file.source for file in plan.files)
        self._note_shot(plan)
        return plan

    def _note_shot(self, plan: Plan) -> None:
        """Note which images that may have rows go along with another."""
        self._along.update((file.source, plan.image.source) for file in plan.companions if is_image(file.source))

    def _place(self, target: str) -> str:
        return os.path.join(self._folder, target)

    def _is_free(self, target: str) -> bool:
        return target not in self._planned and not os.path.lexists(self._place(target))

    def _write_ahead(self, plans: Sequence[Plan]) -> bool:
        """Write to the journal what is about to be done, folders before their files; gives whether there is any."""
        plans = [plan for plan in plans if not plan.twin]
        if self._dry_run or not plans:
            return False
        entries, self._ahead = self._ahead, []
        for plan in plans:
            for folder in folders_of(plan.image.target):
                if folder not in self._folders:
                    self._folders.add(folder)
                    if not os.path.lexists(self._place(folder)):
                        entries.append(Entry("mkdir", folder))
            of_image = "" if plan.is_there else unfinished_name()
            for file in plan.files:
                made, image = (of_image, "") if file is plan.image else (unfinished_name(), of_image)
                entry = Entry(self._mode, file.target, file.source, file.was, made, image=image)
                if self._mode == "move" and os.path.lexists(file.source):
                    entry = replace(entry, identity=identity(file.source), rights=rights_of(file.source))
                self._entries[file.target] = entry
                entries.append(entry)
        write_ahead(self._journal, entries, key=self._key)
        return True

    def _follow(self, plan: Plan | CompanionRow | SortResult, plan_row: _PlanRow) -> Iterator[SortResult]:
        """Do what is planned."""
        if isinstance(plan, SortResult):
            yield plan
        elif isinstance(plan, Plan):
            yield self._carry_out(plan)
        elif plan.source in self._along:
            yield SortResult(plan.row.path, "along")
        elif plan.row.status == "failed":
            yield SortResult(plan.row.path, "failed")
        else:  # the other has not got there
            for again in plan_row(plan.row):
                self._write_ahead([again] if isinstance(again, Plan) else [])
                yield from self._follow(again, plan_row)

    def _carry_out(self, plan: Plan) -> SortResult:
        if plan.twin:
            return self._follow_twin(plan)
        if self._dry_run:
            return plan.outcome("there" if plan.is_there else "done", plan.why)
        if changed := [file for file in plan.files if file_signature(file.source) != file.was]:
            return self._leave(plan, "changed", f"{_of(changed[0], plan)}has changed just now")
        carried: list[File] = []
        for file in plan.files:
            target, entry = self._place(file.target), self._entries[file.target]
            try:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                TRANSFERS[self._mode](file.source, target, entry.made)
            except FileExistsError as error:
                return self._try_again(plan, file, carried, error)
            except OSError as error:
                return self._leave(plan, "error", self._why_not(plan, file, error), carried)
            carried.append(file)
            if self._mode == "move":
                self._moved.add(file.source)
                self._warn_of_losses(entry, target)
        if plan.is_there:
            return plan.outcome("differs" if plan.why else "there", plan.why)
        return plan.outcome("done")

    def _follow_twin(self, plan: Plan) -> SortResult:
        """See that the other has got to the place that both should have, or find another."""
        source = plan.image.source
        if source in self._leaving and (self._dry_run or not os.path.lexists(source)):
            return SortResult(plan.path, "moved")
        if self._dry_run or (not plan.companions and is_same(source, self._place(plan.image.target))):
            return replace(plan, companions=()).outcome("there")
        self._planned.pop(plan.image.target, None)
        return self._plan_again(plan)

    def _warn_of_losses(self, entry: Entry, target: str) -> None:
        """Say once what the file system of the folder does not keep of images that are moved there."""
        missing = () if self._has_warned else lost(target, entry.was, entry.rights)
        if found := [what for what in missing if what != "owners" or os.geteuid() == 0]:  # others give no files away
            self._has_warned = True
            log.warning("%s does not keep the %s of images: --undo restores them", self._folder, listed(found))

    def _why_not(self, plan: Plan, file: File, error: OSError) -> str:
        """What kept a file from its place.

        Raises:
            OutputError: the disk is full.
        """
        why, target, whose = error.strerror or str(error), self._place(file.target), _of(file, plan)
        if self._mode == "move" and error.errno in _FORBIDDEN and os.access(os.path.dirname(target), os.W_OK | os.X_OK):
            cure = "let this user write there, or take another --mode"
            return f"{whose}cannot be taken out of {os.path.dirname(file.source)} ({why}): {cure}"
        if error.errno in FULL:
            raise OutputError(f"cannot write {target}: {why}") from error
        if error.errno == errno.EXDEV:
            why = "that is another file system, and has no hard links to this one: take another --mode"
        return f"{whose}cannot be put there: {why}"

    def _try_again(self, plan: Plan, file: File, carried: Sequence[File], error: OSError) -> SortResult:
        """Find another name: somebody was faster, or the file system takes two names for the same."""
        why = f"{_of(file, plan)}cannot be put there: {error.strerror}: {error.filename}"
        left = self._leave(plan, "error", why, carried)
        is_taken = os.path.lexists(self._place(file.target))  # and not just by another of its companions, or no folder
        return self._plan_again(plan) if is_taken else left

    def _leave(self, plan: Plan, done: Done, why: str, carried: Sequence[File] = ()) -> SortResult:
        """Leave an image and its companions where they are, although the journal has it otherwise."""
        stuck = set()
        for file in reversed(carried):
            try:
                take_back(self._mode, self._entries[file.target], self._place(file.target))
            except (KeptError, OSError) as error:
                log.warning("%s stays at %s: %s", file.source, self._place(file.target), error)
                stuck.add(file.target)
        for file in plan.files:
            self._planned.pop(file.target, None)
            self._along.pop(file.source, None)
            self._leaving.discard(file.source)
        void = [file.target for file in plan.files if file.target not in stuck]
        entries = [Entry("void", target, made=self._entries[target].made) for target in void]
        write_ahead(self._journal, entries, key=self._key)
        return plan.outcome(done, why)

    def _plan_again(self, plan: Plan) -> SortResult:
        source, was = plan.image.source, plan.image.was
        names = [os.path.basename(file.source) for file in plan.companions if os.path.lexists(file.source)]
        try:
            again = self._plan(plan.path, source, was, plan.wanted, names)
        except OSError as error:
            return SortResult(plan.path, "error", why=f"cannot be read: {error.strerror or error}")
        if isinstance(again, SortResult):
            return again
        self._write_ahead([again])
        return self._carry_out(again)


def _of(file: File, plan: Plan) -> str:
    """How a message that begins with the image goes on to be about a file of its plan."""
    return "" if file is plan.image else f"is left alone: its companion {os.path.basename(file.source)} "


def _key() -> bytes | None:
    try:
        return make_key()
    except OSError as error:
        why = f"{error.filename or 'the state folder'}: {error.strerror or error}"
        log.warning("the journal cannot be signed (%s): --undo will need --to", why)
        return None
