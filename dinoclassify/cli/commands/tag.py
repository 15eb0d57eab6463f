"""`dinoclassify tag`."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import checks, options
from dinoclassify.cli.option_groups import Messages, expand_groups
from dinoclassify.cli.runs.progress import with_progress
from dinoclassify.cli.runs.summary import SOME_FAILED
from dinoclassify.cli.terminal import print_lines, say, set_up_log
from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of, join_choices, printable
from dinoclassify.types.prediction import LIKELY, Prediction
from dinoclassify.writers.tally import Tally
from dinoclassify.writers.target import output_files

if TYPE_CHECKING:
    from dinoclassify.results.sidecars.tag import TagResult

_ACTIONS = {  # action -> what the summary calls it
    "change": "changed",
    "remove": "freed of our labels",
    "delete": "deleted",
    "keep": "as they were",
    "shared": "with the labels of another image of the shot",
    "nothing": "with nothing to write",
    "other": "of other labels",
}


@expand_groups
def tag(
    context: typer.Context,
    *,
    results: options.Results = None,
    sidecar_format: options.SidecarFormat = "xmp",
    naming: options.Naming = "full",
    into: options.SidecarsInto = None,
    prefix: options.Prefix = "dino",
    top_k: options.MostLabels = None,
    min_score: options.LeastScore = None,
    only: options.OnlyLabel = None,
    remove: options.Remove = False,
    dry_run: options.DryRun = False,
    messages: Messages,
) -> int:
    """Write labels as keywords into sidecar files for photo managers.

    digiKam, darktable and Lightroom read XMP sidecars. The images are never written. An existing sidecar keeps
    all that others wrote. A second run changes nothing, and `--remove` takes the keywords out again.

    Examples:
      dinoclassify tag labels.csv
      dinoclassify tag labels.csv -k 3 --min-score 0.2
    """
    set_up_log(messages)
    results = checks.require_results(results)
    if sidecar_format != "xmp":
        checks.reject_options(context, ["prefix"], f"--format {sidecar_format} has no tree of keywords")
    if remove:
        checks.reject_options(context, ["top_k", "min_score"], "--remove takes all our labels out")
    from dinoclassify.results.image_file import file_finder
    from dinoclassify.results.run_facts import read_facts
    from dinoclassify.results.sidecars.tag import TagOptions
    from dinoclassify.results.sidecars.tag import tag as write_sidecars

    selected = checks.select_labels(only, results)
    facts = read_facts(results)
    likely = (facts.threshold or LIKELY) if facts.multi_label else 0.0
    most = None if facts.multi_label and top_k is None else top_k or 1
    tag_options = TagOptions(
        format=sidecar_format,
        naming=naming,
        into=into,
        prefix=prefix,
        top_k=most,
        min_score=likely if min_score is None else min_score,
        only=selected,
        remove=remove,
        dry_run=dry_run,
        spared=frozenset(output_files(results)),
        find=file_finder(results),
    )
    tally = Tally(None)
    rows = _counted(_read_rows(results, None if facts.multi_label else most), tally)
    outcomes = write_sidecars(rows if dry_run else with_progress(rows, messages), tag_options)
    counts, troubles = _report(outcomes, dry_run=dry_run)
    checks.warn_of_unmatched_labels(selected)
    if not messages.quiet:
        say(_summary(tally.total, counts, troubles, dry_run=dry_run))
    return SOME_FAILED if troubles else 0


def _report(outcomes: "Iterator[TagResult]", *, dry_run: bool) -> tuple[Counter[str], Counter[str]]:
    """Print what a dry run would do and what went wrong. Returns the counts of actions and of troubles."""
    counts: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    for outcome in outcomes:
        counts[outcome.action] += 1
        if outcome.trouble is not None:
            troubles[outcome.trouble] += 1
            checks.warn_of_image(outcome.message, troubles.total())
        elif dry_run and outcome.action not in ("keep", "shared", "nothing", "other"):
            print_lines([f"{outcome.action} {printable(outcome.sidecar)}"])
    checks.warn_of_rest(troubles.total(), gone=troubles["gone"], rows=counts.total())
    return counts, troubles


def _summary(rows: int, counts: Counter[str], troubles: Counter[str], *, dry_run: bool) -> str:
    written = f"{count_of(counts['write'], 'sidecar')} {'would be ' if dry_run else ''}written"
    words = _ACTIONS | ({"keep": "as it was"} if counts["keep"] == 1 else {})
    others = [f"{counts[action]:,} {text}" for action, text in words.items() if counts[action]]
    if troubles:
        kinds = ", ".join(f"{count:,} {trouble}" for trouble, count in troubles.most_common())
        others.append(f"{count_of(troubles.total(), 'image')} left alone ({kinds})")
    return ", ".join([f"{count_of(rows, 'row')}: {written}", *others])


def _read_rows(results: str, needed: int | None) -> Iterator[Prediction]:
    """Yield the last row of each image, after a check that the first row with labels has as many as ``needed``.

    All rows of a single-label model have the same number. Those of a multi-label model need none: None.
    """
    from dinoclassify.results.reader import latest_predictions

    for row in latest_predictions(results):
        if needed is not None and row.top:
            if len(row.top) < needed:
                cures = [f"use -k {len(row.top)}", f"run predict again with -k {needed}"]
                cures += ["name the file if the model is multi-label"] if results == STDIN else []
                has = f"each row has {count_of(len(row.top), 'label')}"
                raise UsageError(f"--top-k {needed}: {has}; {join_choices(cures)}")
            needed = None
        yield row


def _counted(rows: Iterator[Prediction], tally: Tally) -> Iterator[Prediction]:
    for row in rows:
        tally.add(row)
        yield row
