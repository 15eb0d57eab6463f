"""Rows -> images in one folder for each label: copied, moved or linked, with a journal by which it can be undone.

`SortedFolder.sort` plans a batch of rows, writes the plans to the journal, carries them out, and goes on to the next.
"""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from dinoclassify.errors import UsageError
from dinoclassify.results.companions import together
from dinoclassify.results.sort.executor import Executor
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal, unfinished_run, valid_entries
from dinoclassify.results.sort.planner import Planner
from dinoclassify.results.sort.plans import Plan, SortResult, Step
from dinoclassify.results.sort.signing import make_key
from dinoclassify.results.sort.targets import SortOptions
from dinoclassify.results.sort.transfer import Mode, same_content
from dinoclassify.results.sort.undo import remove_empty, repair
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.lock import locked
from dinoclassify.storage.missing import check_into
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

BATCH = 100  # rows, or shots of several rows, for which the journal is forced onto the disk once


@contextmanager
def open_sorted_folder(folder: str, mode: Mode, *, dry_run: bool, resume: bool, wait: bool) -> Iterator["SortedFolder"]:
    """The folder, made if need be, and locked until the block ends.

    A folder made for this run is removed if no journal was written. ``wait`` waits for another run that sorts into the
    folder; for the other arguments see `SortedFolder`.

    Raises:
        UsageError: see `SortedFolder`; or ``folder`` is a file.
        LockedError: another run sorts into it, and ``wait`` is not set.
        OutputError: the folder or its lock cannot be made.
    """
    journal = os.path.join(folder, JOURNAL_NAME)
    new_folders = [] if dry_run else make_folder(folder)
    try:
        with nullcontext() if dry_run else locked(journal, wait=wait):
            yield SortedFolder(folder, mode, new_folders=new_folders, dry_run=dry_run, resume=resume)
    finally:
        if not os.path.exists(journal):
            remove_empty(new_folders)


class SortedFolder:
    """The folder into which images are sorted, with its journal.

    ``new_folders`` were made for it, see `make_folder`. ``resume`` goes on after a run that did not finish.

    Raises:
        UsageError: a run did not finish and ``resume`` is not set, or the journal cannot be read.
    """

    def __init__(
        self, folder: str, mode: Mode, *, new_folders: Sequence[str] = (), dry_run: bool = False, resume: bool = False
    ) -> None:
        self._folder, self._mode, self._dry_run = os.path.abspath(folder), mode, dry_run
        self._new_folders, self._key = new_folders, None if dry_run else _signing_key()
        path = os.path.join(self._folder, JOURNAL_NAME)
        journal = read_journal(path, self._key)
        self._is_own = journal.is_own
        if not self._is_own and self._key is not None:
            log.warning("%s is not known to be yours: --undo will need --to", path)
        self._unfinished = unfinished_run(journal.entries)
        if self._unfinished and not resume:
            cure = f"--resume finishes it, --undo {os.path.join(folder, JOURNAL_NAME)} takes it back"
            raise UsageError(f"an earlier sort into {folder} was interrupted: {cure}")
        self._moved = {entry.source for entry in valid_entries(journal.entries) if entry.event == "move"}

    @property
    def is_signed(self) -> bool:
        """Whether the journal will be known as the user's own."""
        return self._is_own and self._key is not None

    def sort(
        self,
        rows: Iterable[Prediction],
        options: SortOptions,
        *,
        batch: int = BATCH,
        shots: Mapping[str, int] | None = None,
    ) -> Iterator[SortResult]:
        """Put each image at its target, or beside it under a free name; yields a result for each target.

        A run that did not finish is repaired first. This run is complete with its last result. The journal gets the
        plans of ``batch`` rows at once, before the first of their images is touched. ``shots`` has how many rows each
        shot has, see `results.companions.count_shots`; None if that is not known.

        Raises:
            OutputError: the journal cannot be written, or the disk is full.
        """
        if not self._dry_run:
            for entry in repair(self._folder, self._unfinished, is_own=self._is_own):
                moved_to = os.path.join(self._folder, entry.target)
                why = f"is here again, though it was moved to {moved_to}: it stays in both places"
                yield SortResult(entry.source, "back", entry.target, why)
        interrupted = [entry.source for entry in valid_entries(self._unfinished) if entry.event == "move"]
        planner = Planner(self._folder, self._mode, options, self._moved, interrupted)
        executor = Executor(self._folder, self._mode, key=self._key, new_folders=self._new_folders, moved=self._moved)
        run = _StepRunner(self._folder, planner, executor, self._dry_run)
        has_begun, groups = bool(self._unfinished), together(rows, shots, options.find)
        while group_batch := list(itertools.islice(groups, batch)):
            steps = [step for group in group_batch for step in planner.plan_shot(group, are_all=shots is not None)]
            has_begun |= run.write_ahead(steps)
            for step in steps:
                yield from run.execute(step)
            if not self._dry_run:
                planner.forget_plans()
        if has_begun and not self._dry_run:
            executor.end_run()


@dataclass(frozen=True, slots=True)
class _StepRunner:
    """Carries steps out, and plans again what cannot be done as planned."""

    folder: str
    planner: Planner
    executor: Executor
    dry_run: bool

    def write_ahead(self, steps: Iterable[Step]) -> bool:
        """Write the plans among the steps to the journal; returns whether there are any."""
        return not self.dry_run and self.executor.write_ahead(step for step in steps if isinstance(step, Plan))

    def execute(self, step: Step) -> Iterator[SortResult]:
        """Carry out a step; yields its results."""
        if isinstance(step, SortResult):
            yield step
        elif isinstance(step, Plan):
            yield self._carry_out(step)
        elif step.source in self.planner.primary_of:
            yield SortResult(step.row.path, "along")
        elif step.row.status == "failed":
            yield SortResult(step.row.path, "failed")
        else:  # its primary image was not transferred: plan this one on its own
            for new_step in self.planner.plan_row(step.row):
                self.write_ahead([new_step])
                yield from self.execute(new_step)

    def _carry_out(self, plan: Plan) -> SortResult:
        if plan.is_twin:
            return self._follow_twin(plan)
        if self.dry_run:
            return plan.result("there" if plan.is_there else "done", plan.why)
        result = self.executor.execute(plan)
        if result is None:
            self.planner.drop(plan)
            return self._plan_again(plan)
        if result.done in ("changed", "error"):
            self.planner.drop(plan)
        return result

    def _follow_twin(self, plan: Plan) -> SortResult:
        """Check that the target has the content of the image by now; find another target if it does not."""
        image = plan.image
        if image.source in self.planner.leaving and (self.dry_run or not os.path.lexists(image.source)):
            return SortResult(plan.path, "moved")
        has_target = not plan.companions and same_content(image.source, os.path.join(self.folder, image.target))
        if self.dry_run or has_target:
            return replace(plan, companions=()).result("there")
        self.planner.free_target(image.target)
        return self._plan_again(plan)

    def _plan_again(self, plan: Plan) -> SortResult:
        new_plan = self.planner.plan_again(plan)
        if isinstance(new_plan, SortResult):
            return new_plan
        self.write_ahead([new_plan])
        return self._carry_out(new_plan)


def _signing_key() -> bytes | None:
    try:
        return make_key()
    except OSError as error:
        why = f"{error.filename or 'the state folder'}: {error.strerror or error}"
        log.warning("the journal cannot be signed (%s): --undo will need --to", why)
        return None


def make_folder(folder: str) -> list[str]:
    """Make a folder and its parents; returns the ones that were missing, outermost first.

    Raises:
        UsageError: ``folder`` is a file.
        OutputError: it cannot be made.
    """
    check_into(folder)
    missing: list[str] = []
    path = os.path.realpath(folder)  # as in `find_journal`
    while not os.path.lexists(path):
        missing.insert(0, path)
        path = os.path.dirname(path)
    with as_output_errors(folder):
        os.makedirs(folder, exist_ok=True)
    return missing
