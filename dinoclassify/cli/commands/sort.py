"""`dinoclassify sort`."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import options
from dinoclassify.cli.checks import (
    reject_options,
    require_results,
    select_labels,
    warn_of_image,
    warn_of_rest,
    warn_of_unmatched_labels,
)
from dinoclassify.cli.option_groups import Messages, expand_groups
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.progress import with_progress
from dinoclassify.cli.runs.signals import Stopped, finishing_batches
from dinoclassify.cli.runs.summary import SOME_FAILED
from dinoclassify.cli.terminal import hush, print_lines, say, set_up_log
from dinoclassify.errors import DinoclassifyError, UsageError
from dinoclassify.messages import printable
from dinoclassify.storage.lock import locked

if TYPE_CHECKING:
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.only import Only
    from dinoclassify.results.sort.journal import Entry
    from dinoclassify.results.sort.layout import Layout
    from dinoclassify.results.sort.placing import Grouped
    from dinoclassify.results.sort.plans import SortResult
    from dinoclassify.results.sort.undo import Undone
    from dinoclassify.types.prediction import Prediction

log = logging.getLogger("dinoclassify")

_WITH_UNDO = {"undo", "to", "dry_run", "wait", "quiet", "verbose", "debug"}
_WORDS = {
    "companions": "companions",
    "there": "there already",
    "moved": "moved before",
    "along": "rows of companions",
    "differs": "there with other companions",
    "shared": "companions of several images left alone",
    "uncertain": "uncertain left alone",
    "failed": "failed left alone",
    "other": "of other labels",
    "gone": "gone",
    "changed": "changed",
    "back": "back at their old places",
    "error": "could not be sorted",
}
_ONE = {"companions": "companion", "along": "row of companions", "shared": "companion of several images left alone"}
_PAST = {"copy": "copied", "move": "moved", "symlink": "linked", "hardlink": "linked"}


@dataclass(frozen=True, slots=True)
class _Run:
    """What is done with images, and where they go; and how many there are of each outcome, and companions, so far."""

    mode: options.Mode
    into: str
    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def journal(self) -> str:
        """The name of the journal."""
        from dinoclassify.results.sort.journal import NAME

        return os.path.join(self.into, NAME)

    @property
    def troubles(self) -> int:
        """How many images and companions could not be sorted."""
        return sum(self.counts[done] for done in ("differs", "shared", "gone", "changed", "back", "error"))

    @property
    def has_done(self) -> bool:
        """Whether there is something to take back."""
        return bool(self.counts["done"] or self.counts["companions"])

    def summary(self) -> str:
        """The counts in a line."""
        words = {"done": _PAST[self.mode]} | _WORDS
        counts = [(self.counts[done], done, many) for done, many in words.items() if self.counts[done]]
        told = [f"{count:,} {_ONE.get(done, many) if count == 1 else many}" for count, done, many in counts]
        return ", ".join(told) or "nothing to do"

    def last_line(self, *, is_signed: bool) -> str:
        """What is said at the end; ``is_signed``: whether the journal is."""
        root = "" if is_signed else " --to ROOT"
        cure = f"; --undo {self.journal}{root} takes it back" if self.has_done and not self.dry_run else ""
        return f"{'would do: ' if self.dry_run else ''}{self.summary()} -> {self.into}{cure}"


@expand_groups
def sort(
    context: typer.Context,
    *,
    results: options.Results = None,
    min_score: options.MinScore = 0.0,
    groups: options.Groups = None,
    only: options.Only = None,
    into: options.Into = None,
    mode: options.Mode = "copy",
    layout: options.Layout = None,
    with_companions: options.WithCompanions = False,
    uncertain_to: options.UncertainTo = None,
    failed_to: options.FailedTo = None,
    dry_run: options.DryRun = False,
    resume: options.ResumeSort = False,
    undo: options.Undo = None,
    to: options.UndoTo = None,
    wait: options.Wait = False,
    messages: Messages,
) -> int:
    """Put images into one folder for each label.

    Copies, moves or links them. What is done is written to DIR/undo-journal.jsonl before it is done, and --undo takes
    it back. An image never takes the place of another: of two with one name, the second has digits of its content's
    SHA-256 behind it.
    """
    set_up_log(messages)
    if undo is not None:
        others = {parameter.name or "" for parameter in context.command.params} - _WITH_UNDO
        reject_options(context, others, "--undo takes all back that its journal has")
        return _undo(undo, to, dry_run=dry_run, wait=wait, quiet=messages.quiet)
    reject_options(context, ["to"], "--to goes with --undo; --into names the folder to sort into")
    name = require_results(results)
    if not into:
        raise UsageError("name a folder with --into")
    from dinoclassify.results.reader import file_finder, latest_predictions
    from dinoclassify.results.shot_rows import count_shots
    from dinoclassify.results.sort.made_folders import make_folder, remove_folders
    from dinoclassify.results.sort.placing import Rules
    from dinoclassify.results.sort.sort import BATCH, SortedFolder

    where, grouped, known = _layout(context, layout, mode, groups)
    wanted = _chosen(only, name, known, failed_to)
    rules = Rules(where, grouped, min_score, uncertain_to, failed_to, wanted, file_finder(name), with_companions)
    rows, is_stream = _readable_rows(name), name == DASH
    shots = count_shots(latest_predictions(name), rules.find) if with_companions and not is_stream else None
    made = [] if dry_run else make_folder(into)
    work = _Run(mode, into, dry_run)
    try:
        with nullcontext() if dry_run else locked(work.journal, wait=wait):
            folder = SortedFolder(into, mode, made=made, dry_run=dry_run, resume=resume)
            _follow(folder.sort(rows, rules, batch=1 if is_stream else BATCH, shots=shots), work, messages)
    finally:
        if not os.path.exists(work.journal):
            remove_folders(made)  # there was nothing to put into it
    warn_of_unmatched_labels(wanted)
    warn_of_rest(work.troubles, gone=work.counts["gone"], rows=work.counts.total())
    if not messages.quiet:
        say(work.last_line(is_signed=folder.is_signed))
    return SOME_FAILED if work.troubles else 0


def _chosen(only: Sequence[str] | None, name: str, groups: "Groups | None", failed_to: str | None) -> "Only | None":
    """The labels and groups whose images are taken; None for all.

    Raises:
        UsageError: one is unknown, or there is a folder for failed images, which have none.
    """
    if only and failed_to is not None:
        raise UsageError("failed images have no label, so that --only leaves them out: leave out --failed-to")
    return select_labels(only, name, groups)


def _readable_rows(name: str) -> "Iterator[Prediction]":
    """The last row of each image. A file that cannot be read is found out at once, and not with its first row."""
    from dinoclassify.results.reader import latest_predictions

    rows = latest_predictions(name)
    if name == DASH:  # whose first row may be long in coming
        return rows
    return chain([first] if (first := next(rows, None)) is not None else [], rows)


def _layout(
    context: typer.Context, template: str | None, mode: str, groups: str | None
) -> "tuple[Layout, Grouped, Groups | None]":
    """Where images go, what gives the groups of a row, and the groups if the layout uses them."""
    from dinoclassify.labels.groups import group_finder, grouped, read_groups
    from dinoclassify.results.sort.layout import parse_layout
    from dinoclassify.results.sort.placing import ungrouped

    known = read_groups(groups) if groups is not None else None
    layout = parse_layout(template if template is not None else "{label}/{name}" if known is None else "{group}/{name}")
    if mode == "move" and layout.uses("rank"):
        raise UsageError("{rank} gives an image many places, and --mode move only one: copy or link")
    if not layout.uses("group"):
        reject_options(context, ["groups"], f"there is no {{group}} in --layout {template}")
    if known is None or not layout.uses("group"):
        return layout, ungrouped, None
    group_of = group_finder(known)
    return layout, lambda row: grouped(row, known.names, group_of), known


def _follow(outcomes: "Iterator[SortResult]", work: _Run, messages: Messages) -> None:
    """Count what becomes of images, and say what is to be said of each, to the end or until a signal comes."""

    def tell(why: object) -> None:
        say(f"{why}: {work.summary()}" + ("" if work.dry_run else "; --resume goes on, --undo takes it back"))

    def tell_at_last(why: Stopped) -> None:
        tell(why)
        hush()  # what else would be said of the signal

    try:
        with finishing_batches(tell_at_last) as stop:
            for outcome in outcomes if work.dry_run else with_progress(outcomes, messages):
                work.counts[outcome.done] += 1
                work.counts["companions"] += len(outcome.companions)
                _report(outcome, work)
                if stop():
                    break
    except DinoclassifyError:
        if work.has_done:
            tell("the run ends early")
        raise


def _report(outcome: "SortResult", work: _Run) -> None:
    target = os.path.join(work.into, outcome.target)
    if outcome.why:
        warn_of_image(f"{outcome.path} {outcome.why}", work.troubles)
    elif work.dry_run and outcome.done == "done":
        print_lines([printable(f"{work.mode} {outcome.path} -> {target}")])
    else:
        log.info("%s: %s %s", outcome.path, outcome.done, target if outcome.target else "")
    for name, place in outcome.companions if work.dry_run else ():
        companion = os.path.join(os.path.dirname(outcome.path), name)
        print_lines([printable(f"{work.mode} {companion} -> {os.path.join(work.into, place)}")])


def _undo(name: str, to: str | None, *, dry_run: bool, wait: bool, quiet: bool) -> int:
    """Take back what a journal has; gives the exit code."""
    from dinoclassify.results.sort.journal import journal_of, read_journal
    from dinoclassify.results.sort.made_folders import own_folders, remove_folders
    from dinoclassify.results.sort.signing import read_key
    from dinoclassify.results.sort.undo import undo_all

    path = journal_of(name)
    if to is not None and not os.path.isdir(to):
        raise UsageError(f"--to {to}: there is no such folder")
    left = done = 0
    lost: dict[str, str] = {}  # what images could not be given back, with the folder of the first
    with nullcontext() if dry_run else locked(path, wait=wait):
        key = read_key()
        journal = read_journal(path, key)
        if not journal.is_own:
            _mind(path, journal.entries, to, dry_run=dry_run, quiet=quiet)
        key = key if journal.is_own else None
        for undone in undo_all(path, journal.entries, key=key, root=to, dry_run=dry_run):
            left, done = left + (undone.why is not None), done + (undone.why is None)
            lost = {what: os.path.dirname(undone.source) for what in undone.lost} | lost
            if undone.why is not None:
                warn_of_image(f"{undone.target} is left as it is: {undone.why}", left)
            elif dry_run:
                _show(undone)
    if not left and not dry_run:
        remove_folders(own_folders(path, journal.entries))
    _warn_of_losses(lost, is_own=journal.is_own)
    warn_of_rest(left, gone=0, rows=0)
    if not quiet:
        which = "" if dry_run else f", which stay in {path}"
        say(f"{'would do: ' if dry_run else ''}{done:,} taken back" + (f", {left:,} left{which}" if left else ""))
    return SOME_FAILED if left else 0


def _warn_of_losses(lost: Mapping[str, str], *, is_own: bool) -> None:
    from dinoclassify.results.sort.attributes import listed

    together: dict[tuple[str, str], list[str]] = {}
    for what, folder in lost.items():
        together.setdefault((folder, _why_lost(what, is_own=is_own)), []).append(what)
    for (folder, why), words in together.items():
        log.warning("%s: the %s that images had could not be restored: %s", folder, listed(words), why)


def _why_lost(what: str, *, is_own: bool) -> str:
    if what != "exact times" and not is_own:
        return "a journal that is not known to be yours gives no file another owner, nor others more access"
    return "only root may do that" if what == "owners" and os.geteuid() else "its file system does not keep them"


def _mind(path: str, entries: "Sequence[Entry]", to: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Show what a journal that is not the user's own would do; refuse it unless a folder limits that.

    Raises:
        UsageError: none does.
    """
    from dinoclassify.results.sort.undo import undo_all

    why = f"{path} is not known to be yours: it was moved, or written elsewhere or by an older version"
    cure = "--to ROOT takes back only what goes below ROOT"
    if dry_run:
        log.warning("%s: %s", why, cure)
    elif to is None:
        raise UsageError(f"{why}; {cure}, and --dry-run shows what that is")
    elif not quiet:
        for undone in undo_all(path, entries, root=to, dry_run=True):
            if undone.why is None:
                _show(undone)


def _show(undone: "Undone") -> None:
    print_lines([printable(f"undo {undone.target} -> {undone.source}")])
