"""`dinoclassify sort`."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from itertools import chain
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import options
from dinoclassify.cli.given import refuse_given
from dinoclassify.cli.progress import wants_bar
from dinoclassify.cli.run import DASH, SOME_FAILED
from dinoclassify.cli.signals import finishing_batches
from dinoclassify.cli.terminal import print_lines, progress_bar, say, set_up_log
from dinoclassify.errors import UsageError
from dinoclassify.locks import locked
from dinoclassify.rows import printable

if TYPE_CHECKING:
    from dinoclassify.rows import Label
    from dinoclassify.sorting import Outcome

log = logging.getLogger("dinoclassify")

_MOST_WARNINGS = 20
_WITH_UNDO = {"undo", "wait", "progress", "quiet", "verbose", "debug"}
_PAST = {"copy": "copied", "move": "moved", "symlink": "linked", "hardlink": "linked"}


@options.grouped
def sort(
    context: typer.Context,
    *,
    results: options.Results = None,
    min_score: options.MinScore = 0.0,
    groups: options.Groups = None,
    into: options.Into = None,
    mode: options.Mode = "copy",
    layout: options.Layout = None,
    uncertain_to: options.UncertainTo = None,
    failed_to: options.FailedTo = None,
    dry_run: options.DryRun = False,
    resume: options.ResumeSort = False,
    undo: options.Undo = None,
    wait: options.Wait = False,
    messages: options.Messages,
) -> int:
    """Put pictures into one folder for each label.

    Copies, moves or links them. What is done is written to DIR/undo-journal.jsonl before it is done, and --undo takes
    it back. A picture never takes the place of another: of two with one name, the second has a few digits behind it.
    """
    set_up_log(messages)
    if undo is not None:
        others = {parameter.name or "" for parameter in context.command.params} - _WITH_UNDO
        refuse_given(context, others, "--undo takes all back that its journal has")
        return _undo(undo, messages, wait=wait)
    from dinoclassify.layout import parse_layout
    from dinoclassify.predictions import read_predictions
    from dinoclassify.sorting import BATCH, Rules, SortedFolder, make_folder
    from dinoclassify.undo_journal import NAME, remove_folders

    if results is None:
        raise UsageError("name a file that predict wrote, or - for its rows on stdin")
    if not into:
        raise UsageError("name a folder with --into")
    where = parse_layout(layout or ("{group}/{name}" if groups is not None else "{label}/{name}"))
    if mode == "move" and where.uses("rank"):
        raise UsageError("{rank} gives a picture many places, and --mode move only one: copy or link")
    if groups is not None and not where.uses("group"):
        raise UsageError(f"--groups is for the field {{group}}, which is not in --layout {layout}")
    rules = Rules(where, _group_finder(groups), min_score, uncertain_to, failed_to)
    rows = read_predictions(results)
    rows = chain([first] if (first := next(rows, None)) is not None else [], rows)  # to find out now if it can be read
    made = [] if dry_run else make_folder(into)
    with nullcontext() if dry_run else locked(os.path.join(into, NAME), wait=wait):
        folder = SortedFolder(into, mode, made=made, dry_run=dry_run, resume=resume)
        counts: Counter[str] = Counter()

        def tell(why: object) -> None:
            say(f"{why}: {_summary(counts, mode)}; --resume goes on, --undo {os.path.join(into, NAME)} takes it back")

        with finishing_batches(tell) as stop, ExitStack() as bars:
            bar = bars.enter_context(progress_bar()) if wants_bar(messages) else None
            for outcome in folder.sort(rows, rules, batch=1 if results == DASH else BATCH):
                counts[outcome.done] += 1
                _report(outcome, into, mode, counts, dry_run=dry_run)
                if bar is not None:
                    bar.update()
                if stop():
                    break
            else:
                folder.end()
    if not os.path.exists(os.path.join(into, NAME)):
        remove_folders(made)  # there was nothing to put into it
    troubles = counts["stale"] + counts["error"]
    if troubles > _MOST_WARNINGS:
        log.warning("and so %s more", f"{troubles - _MOST_WARNINGS:,}")
    if not messages.quiet:
        cure = f"; --undo {os.path.join(into, NAME)} takes it back" if counts["done"] and not dry_run else ""
        say(f"{'would do: ' if dry_run else ''}{_summary(counts, mode)} -> {into}{cure}")
    return SOME_FAILED if troubles else 0


def _group_finder(groups: str | None) -> "Callable[[Label], tuple[str, int]] | None":
    if groups is None:
        return None
    from dinoclassify.groups import group_finder, read_groups

    known = read_groups(groups)
    find = group_finder(known)
    return lambda rank: (known.names[find(rank)], find(rank))


def _report(outcome: "Outcome", into: str, mode: str, counts: Counter[str], *, dry_run: bool) -> None:
    if outcome.why and counts["stale"] + counts["error"] <= _MOST_WARNINGS:
        log.warning("%s %s", outcome.path, outcome.why)
    elif dry_run and outcome.done == "done":
        print_lines([printable(f"{mode} {outcome.path} -> {os.path.join(into, outcome.target)}")])
    else:
        log.info("%s: %s %s", outcome.path, outcome.done, outcome.target)


def _summary(counts: Counter[str], mode: str) -> str:
    words = {
        "done": _PAST[mode],
        "there": "there already",
        "uncertain": "uncertain left alone",
        "failed": "failed left alone",
        "stale": "changed or gone",
        "error": "could not be put there",
    }
    return ", ".join(f"{counts[done]:,} {word}" for done, word in words.items() if counts[done]) or "nothing to do"


def _undo(name: str, messages: options.Messages, *, wait: bool) -> int:
    """Take back what a journal has; gives the exit code."""
    from dinoclassify.undo_journal import journal_of, own_folders, read_journal, remove_folders, undo_all

    path = os.path.abspath(journal_of(name))
    if not os.path.isfile(path):
        raise UsageError(f"there is no journal {path}: sort --into DIR writes DIR/undo-journal.jsonl")
    left = done = 0
    with locked(path, wait=wait):
        entries = read_journal(path)
        for entry, why in undo_all(path, entries):
            left, done = left + (why is not None), done + (why is None)
            if why is not None and left <= _MOST_WARNINGS:
                log.warning("%s is left as it is: %s", os.path.join(os.path.dirname(path), entry.target), why)
    if not left:
        remove_folders(own_folders(entries))
    if not messages.quiet:
        say(f"{done:,} taken back" + (f", {left:,} left, which stay in {path}" if left else ""))
    return SOME_FAILED if left else 0
