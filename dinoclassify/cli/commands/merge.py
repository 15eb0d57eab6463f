"""`dinoclassify merge`."""

import os
from collections.abc import Collection
from contextlib import nullcontext
from functools import partial

from dinoclassify.cli import options
from dinoclassify.cli.option_groups import Messages, expand_groups
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.progress import with_progress
from dinoclassify.cli.runs.signals import ending_with_reader
from dinoclassify.cli.runs.summary import describe_counts
from dinoclassify.cli.terminal import say, set_up_log
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.writers.formats import choose_format
from dinoclassify.writers.stream import check_output
from dinoclassify.writers.tally import Tally
from dinoclassify.writers.target import Target, exclusive, output_files


@expand_groups
def merge(
    *,
    parts: options.Parts = None,
    allow_gaps: options.AllowGaps = False,
    allow_duplicates: options.AllowDuplicates = False,
    output: options.OutputFile = DASH,
    output_format: options.Format = None,
    excel_safe: options.ExcelSafe = False,
    wait: options.Wait = False,
    messages: Messages,
) -> int:
    """Merge the files of several runs into one.

    The files of `--shard 1/N` to `--shard N/N` become the file that one run would have written. All parts must be
    there, and have the same model, options and inputs. Files that are not shards are joined in the given order. The
    exit code is 0 even if rows failed: the runs that wrote them reported it.

    Examples:
      dinoclassify merge part-*.csv -o labels.csv
      dinoclassify merge labels/ -o labels.csv
    """
    set_up_log(messages)
    file = None if output in (DASH, "") else output
    target = Target(file, choose_format(file, output_format, excel_safe=excel_safe))
    if target.url is None:
        check_output(file, target.file_format)
    from dinoclassify.results.merge.merge import merge as merge_parts
    from dinoclassify.results.merge.parts import find_parts

    names = find_parts(parts or ())
    if not names:
        raise UsageError("name the parts: files that predict wrote")
    if file is not None:
        _check_new_file(file, [*names, *(parts or ())])
    local_file = target.local_file
    fresh = local_file is not None and _is_merged(local_file)
    with exclusive(target, wait=wait, fresh=fresh), ending_with_reader() if file is None else nullcontext():
        merged = merge_parts(
            names,
            local_file or file,
            target.file_format.name,
            allow_gaps=allow_gaps,
            allow_duplicates=allow_duplicates,
            progress=partial(with_progress, messages=messages),
        )
    if not messages.quiet:
        tally = Tally(None)
        tally.add_all(merged.statuses, merged.errors)
        counts = count_of(tally.total, "image") + (f": {describe_counts(tally)}" if tally.total else "")
        where = f" -> {file}" if file is not None else ""
        say(f"{counts} of {count_of(len(names), 'part')}{where}")
    return 0


def _is_merged(file: str) -> bool:
    """Whether an earlier merge wrote the file: it can be made again, unlike the rows of any other run."""
    from dinoclassify.results.reader import read_meta

    return "merged_from" in read_meta(file)


def _check_new_file(file: str, parts: Collection[str]) -> None:
    """Raise UsageError if the output would change a part, or has the suffix of an image."""
    path = os.path.realpath(file)
    written = output_files(file)
    for part in parts:
        if not written.isdisjoint(output_files(part)):
            raise UsageError(f"{file} is also one of the parts: choose another name")
        if os.path.isdir(part) and path.startswith(f"{os.path.realpath(part)}/"):
            raise UsageError(f"{file} would be one of the parts in {part}: choose another folder")
    if has_image_suffix(file):
        raise UsageError(f"{file} has the suffix of an image: choose another name")
