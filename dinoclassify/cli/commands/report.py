"""`dinoclassify report`."""

import os
from collections.abc import Callable

from dinoclassify.cli import options
from dinoclassify.cli.checks import require_results
from dinoclassify.cli.option_groups import Messages, expand_groups
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.progress import with_progress
from dinoclassify.cli.terminal import say, set_up_log
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.paths import shown_path
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.stream import check_place
from dinoclassify.writers.target import output_files


@expand_groups
def report(
    *,
    results: options.Results = None,
    output: options.Page = "",
    groups: options.ShownGroups = None,
    thumbnails: options.Thumbnails = 6,
    link: options.Link = False,
    messages: Messages,
) -> int:
    """Make one HTML page of rows, to look at and to send.

    Any browser opens it, without a network. It shows counts, scores, failures with their reasons, what made the
    rows, thumbnails of each label, and a list of all images to search and filter.

    Examples:
      dinoclassify report labels.csv -o report.html
    """
    set_up_log(messages)
    results = require_results(results)
    if not output:
        raise UsageError("name a file with --output")
    if "://" in output:
        raise UsageError(f"--output {output}: name a file on this machine, not an address")
    if output != DASH:
        check_place(output)
    if output != DASH and os.path.realpath(output) in {*output_files(results), os.path.realpath(groups or results)}:
        raise UsageError(f"{output} is also an input: choose another name")
    if has_image_suffix(output):
        raise UsageError(f"{output} has the suffix of an image: choose another name")
    from rich.filesize import decimal

    from dinoclassify.results.image_file import file_finder
    from dinoclassify.results.reader import latest_predictions, read_meta
    from dinoclassify.results.report.page import write_page
    from dinoclassify.results.run_facts import read_facts

    written = write_page(
        output,
        latest_predictions(results),
        title="rows from stdin" if results == STDIN else shown_path(os.path.basename(results)),
        meta={} if results == STDIN else read_meta(results),
        group=_naming(groups, multi_label=read_facts(results).multi_label) if groups is not None else None,
        thumbnails=thumbnails,
        link=link,
        find=file_finder(results),
        progress=lambda thumbnails, count: with_progress(thumbnails, messages, total=lambda: count),
    )
    if not messages.quiet:
        done = f"{count_of(written.rows, 'row')}, {count_of(written.thumbnails, 'thumbnail')}"
        where = f" -> {output}" if output != DASH else ""
        say(f"{done}{where} ({decimal(written.size)})")
    return 0


def _naming(name: str, *, multi_label: bool) -> Callable[[Prediction], str]:
    """Return a function from a row that has a label to its best group."""
    from dinoclassify.labels.groups import fold_ranks, group_finder, read_groups

    groups = read_groups(name)
    group_of = group_finder(groups)
    return lambda row: fold_ranks(row, groups.names, group_of, multi_label=multi_label).top[0].label
