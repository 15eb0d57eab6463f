"""`dinoclassify sort`."""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import checks, options
from dinoclassify.cli.option_groups import Messages, expand_groups
from dinoclassify.cli.runs.progress import with_progress
from dinoclassify.cli.runs.signals import Stopped, finishing_batches
from dinoclassify.cli.runs.summary import SOME_FAILED
from dinoclassify.cli.terminal import hush, print_lines, say, set_up_log
from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import DinoclassifyError, UsageError
from dinoclassify.messages import join_words, printable
from dinoclassify.storage.lock import locked

if TYPE_CHECKING:
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.sort.journal import Entry
    from dinoclassify.results.sort.layout import Layout
    from dinoclassify.results.sort.plans import SortResult
    from dinoclassify.results.sort.targets import GroupsOf, SortOptions
    from dinoclassify.results.sort.undo import UndoResult
    from dinoclassify.types.prediction import Prediction

log = logging.getLogger("dinoclassify")

_UNDO_OPTIONS = {"undo", "to", "dry_run", "wait", "quiet", "verbose", "debug"}
_OUTCOMES = {  # outcome -> what the summary calls it
    "companions": "companions",
    "there": "there already",
    "moved": "moved before",
    "along": "rows of companions",
    "differs": "there with other companions",
    "shared": "companions of several images left alone",
    "uncertain": "uncertain left alone",
    "failed": "without a label left alone",
    "other": "of other labels left alone",
    "gone": "gone",
    "changed": "changed",
    "back": "back at their old places",
    "error": "could not be sorted",
}
_SINGULAR = {
    "companions": "companion",
    "along": "row of companions",
    "shared": "companion of several images left alone",
}
_DONE = {"copy": "copied", "move": "moved", "symlink": "linked", "hardlink": "linked"}


@dataclass(frozen=True, slots=True)
class _SortSummary:
    """What to do with images and where they go, with the counts of outcomes and of companions so far."""

    mode: options.Mode
    into: str
    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def troubles(self) -> int:
        """The number of images and companions that could not be sorted."""
        return sum(self.counts[done] for done in ("differs", "shared", "gone", "changed", "back", "error"))

    @property
    def has_done(self) -> bool:
        """Whether there is something for --undo to take back."""
        return bool(self.counts["done"] or self.counts["companions"])

    def summary(self) -> str:
        """Return the counts in a line."""
        names = {"done": _DONE[self.mode]} | _OUTCOMES
        counts = [(self.counts[outcome], outcome, plural) for outcome, plural in names.items() if self.counts[outcome]]
        parts = [f"{count:,} {_SINGULAR.get(name, plural) if count == 1 else plural}" for count, name, plural in counts]
        return ", ".join(parts) or "nothing to do"

    def last_line(self, *, is_signed: bool) -> str:
        """The last line of the run; ``is_signed``: the journal is known as the user's own."""
        undo = f"--undo {shlex.quote(self.into)}{'' if is_signed else ' --to ROOT'}"
        cure = f"; {undo} takes it back" if self.has_done and not self.dry_run else ""
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

    Copies, moves or links them. `--undo` takes everything back: each step is written to DIR/undo-journal.jsonl
    before it is done. No image replaces another: a second image of the same name gets digits of its SHA-256.

    Examples:
      dinoclassify sort labels.csv --into sorted/ --dry-run
      dinoclassify sort labels.csv --into sorted/ --mode move
      dinoclassify sort --undo sorted/
    """
    set_up_log(messages)
    if undo is not None:
        return _undo(context, undo, to, dry_run=dry_run, wait=wait, quiet=messages.quiet)
    checks.reject_options(context, ["to"], "--to goes with --undo; --into names the folder to sort into")
    name, into = checks.require_results(results), _require_folder(into)
    from dinoclassify.results.image_file import file_finder
    from dinoclassify.results.sort.sort import BATCH, open_sorted_folder
    from dinoclassify.results.sort.targets import SortOptions

    parsed_layout, group_table = _layout(context, layout, mode, groups, only)
    if only and failed_to is not None:
        raise UsageError("failed images have no label, so that --only leaves them out: leave out --failed-to")
    selected = checks.select_labels(only, name, group_table)
    sort_options = SortOptions(
        layout=parsed_layout,
        groups_of=_grouping(name, group_table),
        min_score=min_score,
        uncertain_to=uncertain_to,
        failed_to=failed_to,
        only=selected,
        find=file_finder(name),
        with_companions=with_companions,
    )
    rows, shots = _readable_rows(name), _count_shots(name, sort_options)
    work = _SortSummary(mode, into, dry_run)
    with open_sorted_folder(into, mode, dry_run=dry_run, resume=resume, wait=wait) as folder:
        _follow(folder.sort(rows, sort_options, batch=1 if name == STDIN else BATCH, shots=shots), work, messages)
    checks.warn_of_unmatched_labels(selected)
    _say_end(work, is_signed=folder.is_signed, quiet=messages.quiet)
    return SOME_FAILED if work.troubles else 0


def _say_end(work: _SortSummary, *, is_signed: bool, quiet: bool) -> None:
    checks.warn_of_rest(work.troubles, gone=work.counts["gone"], rows=work.counts.total())
    if not quiet:
        say(work.last_line(is_signed=is_signed))


def _readable_rows(name: str) -> "Iterator[Prediction]":
    """The last row of each image. The first row is read at once, so that an unreadable file is reported at once."""
    from dinoclassify.results.reader import latest_predictions

    rows = latest_predictions(name)
    if name == STDIN:  # its first row may come late
        return rows
    return chain([first] if (first := next(rows, None)) is not None else [], rows)


def _require_folder(into: str | None) -> str:
    if not into:
        raise UsageError("name a folder with --into")
    return into


def _count_shots(name: str, sort_options: "SortOptions") -> dict[str, int] | None:
    """Count the rows of each shot, for images that take their companions along; None on stdin, which is read once."""
    if name == STDIN or not sort_options.with_companions:
        return None
    from dinoclassify.results.companions import count_shots
    from dinoclassify.results.reader import latest_predictions

    return count_shots(latest_predictions(name), sort_options.find)


def _grouping(name: str, groups: "Groups | None") -> "GroupsOf":
    """How the labels of the rows become groups."""
    from dinoclassify.results.run_facts import read_facts
    from dinoclassify.results.sort.targets import grouped_by

    return grouped_by(groups, multi_label=read_facts(name).multi_label)


def _layout(
    context: typer.Context, template: str | None, mode: str, groups: str | None, only: list[str] | None
) -> "tuple[Layout, Groups | None]":
    """Where images go, and the groups if the layout or ``only`` uses them."""
    from dinoclassify.labels.groups import read_groups
    from dinoclassify.results.sort.layout import parse_layout

    group_table = read_groups(groups) if groups is not None else None
    default = "{label}/{name}" if group_table is None else "{group}/{name}"
    layout = parse_layout(template if template is not None else default)
    if mode == "move" and layout.uses("rank"):
        raise UsageError(
            "--layout with {rank} gives an image several places, --mode move allows one: choose --mode copy or a link"
        )
    if only or layout.uses("group"):
        return layout, group_table
    checks.reject_options(context, ["groups"], f"--layout {template} has no {{group}}, and no --only names one")
    return layout, None


def _follow(results: "Iterator[SortResult]", work: _SortSummary, messages: Messages) -> None:
    """Count and report the results, until the last or until a signal stops the run."""

    def report(why: object) -> None:
        say(f"{why}: {work.summary()}" + ("" if work.dry_run else "; --resume goes on, --undo takes it back"))

    def report_stop(why: Stopped) -> None:
        report(why)
        hush()  # no other message about the signal

    try:
        with finishing_batches(report_stop) as stop:
            for result in results if work.dry_run else with_progress(results, messages):
                work.counts[result.done] += 1
                work.counts["companions"] += len(result.companions)
                _report(result, work)
                if stop():
                    break
    except DinoclassifyError:
        if work.has_done:
            report("the run ends early")
        raise


def _report(result: "SortResult", work: _SortSummary) -> None:
    """Warn, print or log one line about a result, and in a dry run one for each companion."""
    target = os.path.join(work.into, result.target)
    if result.why:
        checks.warn_of_image(f"{result.path} {result.why}", work.troubles)
    elif work.dry_run and result.done == "done":
        print_lines([printable(f"{work.mode} {result.path} -> {target}")])
    else:
        log.info("%s: %s %s", result.path, result.done, target if result.target else "")
    for name, place in result.companions if work.dry_run else ():
        companion = os.path.join(os.path.dirname(result.path), name)
        print_lines([printable(f"{work.mode} {companion} -> {os.path.join(work.into, place)}")])


def _undo(context: typer.Context, name: str, to: str | None, *, dry_run: bool, wait: bool, quiet: bool) -> int:
    """Take back what a journal has; returns the exit code."""
    others = {parameter.name or "" for parameter in context.command.params} - _UNDO_OPTIONS
    checks.reject_options(context, others, "--undo takes back everything in its journal")
    from dinoclassify.results.sort.journal import find_journal, read_journal
    from dinoclassify.results.sort.signing import read_key
    from dinoclassify.results.sort.undo import own_folders, remove_empty, undo_all

    path = find_journal(name)
    if to is not None and not os.path.isdir(to):
        raise UsageError(f"--to {to}: no such folder: check its name")
    left = done = 0
    lost: dict[str, str] = {}  # attributes that could not be restored, with the folder of the first image
    with nullcontext() if dry_run else locked(path, wait=wait):
        key = read_key()
        journal = read_journal(path, key)
        if not journal.is_own:
            _refuse_or_warn(path, journal.entries, to, dry_run=dry_run, quiet=quiet)
        key = key if journal.is_own else None
        for undone in undo_all(path, journal.entries, key=key, root=to, dry_run=dry_run):
            left, done = left + (undone.why is not None), done + (undone.why is None)
            lost = {attribute: os.path.dirname(undone.source) for attribute in undone.lost} | lost
            if undone.why is not None:
                checks.warn_of_image(f"{undone.target} is left as it is: {undone.why}", left)
            elif dry_run:
                _show(undone)
    if not left and not dry_run:
        remove_empty(own_folders(path, journal.entries))
    _warn_of_losses(lost, is_own=journal.is_own)
    checks.warn_of_rest(left, gone=0, rows=0)
    if not quiet:
        which = "" if dry_run else f", which stay in {path}"
        say(f"{'would do: ' if dry_run else ''}{done:,} taken back" + (f", {left:,} left{which}" if left else ""))
    return SOME_FAILED if left else 0


def _warn_of_losses(lost: Mapping[str, str], *, is_own: bool) -> None:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for attribute, folder in lost.items():
        by_reason.setdefault((folder, _why_lost(attribute, is_own=is_own)), []).append(attribute)
    for (folder, why), attributes in by_reason.items():
        log.warning("cannot restore the %s of images in %s: %s", join_words(attributes), folder, why)


def _why_lost(attribute: str, *, is_own: bool) -> str:
    if attribute != "exact times" and not is_own:
        return "the journal is not known to be yours, so it changes no owner and gives others no access"
    return "only root may do that" if attribute == "owners" and os.geteuid() else "its file system does not keep them"


def _refuse_or_warn(path: str, entries: "Sequence[Entry]", to: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Show what a journal that is not the user's own would take back; without ``--to`` or ``--dry-run`` refuse it."""
    from dinoclassify.results.sort.undo import undo_all

    why = f"{path} is not known to be yours: it was moved, or written elsewhere or by an older version"
    cure = "--to ROOT takes back only what goes below ROOT"
    if dry_run:
        log.warning("%s: %s", why, cure)
    elif to is None:
        raise UsageError(f"{why}; {cure}, --dry-run shows what (dinoclassify guide sort)")
    elif not quiet:
        for undone in undo_all(path, entries, root=to, dry_run=True):
            if undone.why is None:
                _show(undone)


def _show(undone: "UndoResult") -> None:
    back = f" back to {undone.source}" if undone.step == "move" else ""
    print_lines([printable(f"{undone.step} {undone.target}{back}")])
