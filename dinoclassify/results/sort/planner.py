"""Rows -> plans: which images go into the folder, under which names, and with which companions."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from dinoclassify.messages import join_words
from dinoclassify.results.companions import Companions, FindCompanions, companion_finder, is_image
from dinoclassify.results.image_file import CHANGED, GONE, why_stale
from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.layout import folder_namer
from dinoclassify.results.sort.plans import CompanionRow, File, Plan, SortResult, Step
from dinoclassify.results.sort.targets import SortOptions, candidate_targets, targets_of
from dinoclassify.results.sort.transfer import Mode, same_content
from dinoclassify.storage.atomic import resolve_folder
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Signature


class Planner:
    """Plans what to do with each row, and gives no target to two images.

    ``folder`` is an absolute path. ``moved`` are the sources of the files that were moved; the executor adds to it.
    ``interrupted`` are images that an unfinished run moved; some of their companions may still be at their old places.
    """

    def __init__(
        self, folder: str, mode: Mode, options: SortOptions, moved: AbstractSet[str], interrupted: Iterable[str]
    ) -> None:
        self._folder, self._mode, self._options, self._moved = folder, mode, options, moved
        self._class_name, self._group_name = folder_namer(), folder_namer()
        self._sources: dict[str, str] = {}  # by the planned targets
        self.leaving: set[str] = set()  # sources of planned moves
        self.primary_of: dict[str, str] = {}  # image that follows another -> the image it follows
        self._stale: set[str] = set()  # images that have changed since they were labelled
        self._shared: set[str] = set()  # companions of several images, already reported
        self._moving_by_stem: defaultdict[str, set[str]] = defaultdict(set)  # images whose companions may stay behind
        for image in filter(is_image, interrupted):
            self._moving_by_stem[os.path.splitext(image)[0]].add(os.path.basename(image))
        self._find_companions: FindCompanions = lambda _: Companions()
        if options.with_companions:
            self._find_companions = companion_finder(self._moving_by_stem if mode == "move" else None)

    def plan_shot(self, rows: Sequence[Prediction], *, are_all: bool) -> list[Step]:
        """What to do with the images of rows; several rows are of one shot.

        A failed row decides where its shot goes only if ``are_all``, the rows of the shot are complete, and all failed.
        """
        if len(rows) > 1:
            for row in rows:
                image = self._options.find(row)
                if why_stale(row, image) not in (None, GONE):
                    self._stale.add(resolve_folder(image))
        labelled = [row for row in rows if row.status != "failed"]
        steps = [step for row in labelled for step in self.plan_row(row)]
        may_decide = are_all and not labelled
        for row in rows:
            if row.status == "failed":
                source = resolve_folder(self._options.find(row))
                may_go = may_decide or source in self.primary_of or not self._has_shot(source)
                steps += self.plan_row(row) if may_go else [SortResult(row.path, "failed")]
        return steps

    def plan_row(self, row: Prediction) -> list[Step]:
        """What to do with the image of a row: a step for each of its targets."""
        image = self._options.find(row)
        source = resolve_folder(image)
        if source in self.primary_of:
            return [CompanionRow(row, source)]
        targets = targets_of(row, source, self._options, self._class_name, self._group_name)
        if isinstance(targets, str):
            return [SortResult(row.path, targets)]
        if source in self.leaving:
            return [Plan(row.path, File(source, file_signature(source), targets[0]), targets[0], is_twin=True)]
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
            return self._plan_targets(row.path, source, targets)
        except OSError as error:
            return [_unreadable(row.path, error)]

    def plan_again(self, plan: Plan) -> Plan | SortResult:
        """Plan an image again whose target is not available after all."""
        image = plan.image
        names = [os.path.basename(file.source) for file in plan.companions if os.path.lexists(file.source)]
        try:
            return self._plan(plan.path, image.source, image.signature, plan.preferred, names)
        except OSError as error:
            return _unreadable(plan.path, error)

    def drop(self, plan: Plan) -> None:
        """Free the targets of a plan that was not carried out."""
        for file in plan.files:
            self.free_target(file.target)
            self.primary_of.pop(file.source, None)
            self.leaving.discard(file.source)

    def free_target(self, target: str) -> None:
        """Let another image have a target."""
        self._sources.pop(target, None)

    def forget_plans(self) -> None:
        """Forget all targets; those of plans that were carried out are in the folder."""
        self._sources.clear()
        self.leaving.clear()

    def _plan_targets(self, path: str, source: str, targets: Sequence[str]) -> list[Step]:
        """A step for each target of an image.

        Raises:
            OSError: the image or its folder cannot be read.
        """
        signature, companions = file_signature(source), self._companions(source)
        folder = os.path.dirname(source)
        if stale := [name for name in companions if os.path.join(folder, name) in self._stale]:
            return [SortResult(path, "changed", why=f"is left alone: its companion {stale[0]} {CHANGED}")]
        steps: list[Step] = [self._plan(path, source, signature, target, companions) for target in targets]
        if self._mode == "move" and source in self.leaving:
            steps += self._report_shared(path, source)
        return steps

    def _has_shot(self, source: str) -> bool:
        try:
            return any(map(is_image, self._companions(source)))
        except OSError:
            return False

    def _companions(self, source: str) -> list[str]:
        """The names of the files that go along with this image only; raises OSError if the folder cannot be read."""
        paths = [os.path.join(os.path.dirname(source), name) for name in self._find_companions(source).names]
        free = [path for path in paths if path not in self.leaving and self.primary_of.get(path, source) == source]
        return [os.path.basename(path) for path in free if os.path.lexists(path)]

    def _report_shared(self, path: str, source: str) -> Iterator[SortResult]:
        """Report each companion that an image shares with others, once: it stays."""
        companions, image = self._find_companions(source), os.path.basename(source)
        for name in companions.shared:
            self._moving_by_stem[os.path.splitext(source)[0]].add(image)
            if os.path.lexists(file := os.path.join(os.path.dirname(source), name)) and file not in self._shared:
                self._shared.add(file)
                cure = f"call it {image}{os.path.splitext(name)[1]} if it is of that"
                why = f"is called like {join_words(sorted([image, *companions.alike]))}, and stays: {cure}"
                yield SortResult(os.path.join(os.path.dirname(path), name), "shared", why=why)

    def _plan(
        self, path: str, source: str, signature: Signature, preferred: str, companions: Sequence[str]
    ) -> Plan | SortResult:
        """A plan with the first target that is free for the image and its companions, or that has the same content."""
        folder = os.path.dirname(source)
        others = [(other, file_signature(other)) for other in (os.path.join(folder, name) for name in companions)]
        for target, other_targets in candidate_targets(preferred, source, companions):
            along = tuple(File(*other, place) for other, place in zip(others, other_targets, strict=True))
            plan = Plan(path, File(source, signature, target), preferred, along)
            if JOURNAL_NAME in (target, *other_targets):
                continue
            if target in self._sources and same_content(source, self._sources[target]):
                return replace(plan, is_twin=True)
            if same_content(source, self._in_folder(target)):
                return self._plan_companions(plan)
            if all(map(self._is_free, (target, *other_targets))):
                return self._note(plan)
        return SortResult(path, "error", why=f"finds no free name like {preferred}")

    def _plan_companions(self, plan: Plan) -> Plan | SortResult:
        """A plan for the missing companions of an image that the folder already has; none of them is moved."""
        missing, why = [], ""
        for file in plan.companions if self._mode != "move" else ():
            place = self._in_folder(file.target)
            if self._is_free(file.target):
                missing.append(file)
            elif not same_content(file.source, self._sources.get(file.target, place)):
                why = f"has a companion {os.path.basename(file.source)} unlike {place}, which stays"
        self._note_primary(plan)
        if not missing:
            return replace(plan, companions=()).result("differs" if why else "there", why)
        return self._note(replace(plan, companions=tuple(missing), is_there=True, why=why))

    def _note(self, plan: Plan) -> Plan:
        """The plan, whose targets no other plan gets."""
        self._sources.update((file.target, file.source) for file in plan.files)
        if self._mode == "move":
            self.leaving.update(file.source for file in plan.files)
        self._note_primary(plan)
        return plan

    def _note_primary(self, plan: Plan) -> None:
        self.primary_of.update((file.source, plan.image.source) for file in plan.companions if is_image(file.source))

    def _in_folder(self, target: str) -> str:
        return os.path.join(self._folder, target)

    def _is_free(self, target: str) -> bool:
        return target not in self._sources and not os.path.lexists(self._in_folder(target))


def _unreadable(path: str, error: OSError) -> SortResult:
    return SortResult(path, "error", why=f"cannot be read: {error.strerror or error}")
