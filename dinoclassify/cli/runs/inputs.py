"""PATHS and the input options of the command line -> the stream of inputs."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from dinoclassify.cli.option_groups import Inputs
from dinoclassify.cli.terminal import require_stdout, say, writing_to_stdout
from dinoclassify.discovery.discover import find, find_images
from dinoclassify.discovery.filters import (
    Filters,
    InputSelector,
    describe_passed_over,
    take_shard_and_limit,
)
from dinoclassify.discovery.location import STDIN
from dinoclassify.discovery.path_list import list_line
from dinoclassify.discovery.roots import check_roots
from dinoclassify.discovery.shard_positions import ShardCensus
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.messages import count_of, printable
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.source import SequentialContainer, Source


def names_of(inputs: Inputs) -> list[str]:
    """Return PATHS and the name of the list. Raises UsageError if there are none."""
    names = [*(inputs.paths or ()), *filter(None, [inputs.files_from])]
    if not names:
        raise UsageError("name images, folders or globs, - for a list on stdin, or --files-from a list")
    return names


def check_inputs(inputs: Inputs) -> None:
    """Check that PATHS exist, see `check_roots`, and that they are tables if --column is given."""
    selector = selector_of(inputs)
    check_roots(inputs.paths or [], selector)
    if selector.column is not None:
        for path in inputs.paths or ():
            if path != STDIN and not is_url(path):  # what is in a list or a store is not known yet
                next(find([path], selector), None)


def print_inputs(inputs: Inputs, *, quiet: bool) -> None:
    """Print the path of each input, exactly, in the order of a run."""
    names = names_of(inputs)
    check_inputs(inputs)
    require_stdout()
    reads_list = STDIN in names or inputs.files_from is not None  # without a list, -0 only separates the output
    census = ShardCensus(inputs.shard) if inputs.shard is not None else None
    count, passed_over = 0, Counter[str]()
    searched = replace(inputs, null=inputs.null and reads_list)
    selector = selector_of(searched, passed_over)
    for source in require_inputs(find_inputs(searched, selector, census), searched, selector, census):
        with writing_to_stdout():
            sys.stdout.buffer.write(_shown(list_line(source.path, "on stdout", null=inputs.null)))
        count += 1
    if not quiet:
        say("; ".join(filter(None, [count_of(count, "input"), describe_passed_over(passed_over)])))


def _shown(line: bytes) -> bytes:
    if not sys.stdout.isatty():
        return line
    return printable(os.fsdecode(line[:-1])).encode("utf-8") + line[-1:]


def find_inputs(inputs: Inputs, selector: InputSelector, census: ShardCensus | None = None) -> Iterator[Source]:
    """Yield the inputs; ``census`` sees all of them. For ``selector`` see `selector_of`."""
    paths, files_from = inputs.paths or [], inputs.files_from
    sources = find_images(paths, selector, files_from=files_from, column=inputs.column, null=inputs.null)
    if census is None:
        return take_shard_and_limit(sources, inputs.shard, inputs.limit)
    return census.record(take_shard_and_limit(census.count(sources), inputs.shard, inputs.limit))


def require_inputs(
    sources: Iterator[Source], inputs: Inputs, selector: InputSelector, census: ShardCensus | None = None
) -> Iterator[Source]:
    """Return the same sources, after a look at the first one.

    Raises:
        NoInputsError: there are none. A shard may be empty if the run has inputs.
    """
    first = next(sources, None)
    if first is None and (census is None or not census.inputs):
        raise _nothing_found(inputs, selector)
    return chain([first] if first is not None else [], sources)


def search(inputs: Inputs, selector: InputSelector) -> Iterator[Source]:
    """Yield the inputs before `--shard` and `--limit`; an archive that is read from front to back is one input."""
    return find(inputs.paths or [], selector, files_from=inputs.files_from, column=inputs.column, null=inputs.null)


def _nothing_found(inputs: Inputs, selector: InputSelector) -> NoInputsError:
    """Return the error for a run without inputs: why there are none, and the cure."""
    names = " ".join(names_of(inputs))
    if selector.left_out:
        found = " and ".join(count_of(count, kind) for kind, count in sorted(selector.left_out.items(), reverse=True))
        patterns = [f"--include '{pattern}'" for pattern in inputs.include or ()]
        patterns += [f"--exclude '{pattern}'" for pattern in inputs.exclude or ()]
        is_one = selector.left_out.total() == 1
        if inputs.exclude:
            verb = "left out by" if is_one else "all left out by"
        else:
            verb = "which does not match" if is_one else "none match"
        return NoInputsError(f"{names}: {found}, {verb} {' '.join(patterns)}: change the pattern")
    if selector.passed_over:
        cure = "name a file to try it whatever its suffix"
        return NoInputsError(f"{names}: no images; {describe_passed_over(selector.passed_over)}; {cure}")
    if not inputs.paths or inputs.paths == [STDIN]:
        name = "on stdin" if names == STDIN else names
        return NoInputsError(f"the list {name} has no paths in it: check what wrote it")
    return NoInputsError(f"no images in {names}: check what is in there, and whether its disk is mounted")


def selector_of(
    inputs: Inputs, passed_over: Counter[str] | None = None, disks: dict[int, str] | None = None
) -> InputSelector:
    """Return which files are inputs. For ``passed_over`` and ``disks`` see `InputSelector`."""
    filters = Filters(inputs.include or (), inputs.exclude or (), hidden=inputs.hidden, follow=inputs.follow)
    column = inputs.column if inputs.files_from is None else None
    return InputSelector(filters, column=column, private=inputs.private_urls, passed_over=passed_over, disks=disks)


def is_live(inputs: Inputs) -> bool:
    """Whether inputs come over time, from stdin."""
    return STDIN in names_of(inputs)


def input_counter(inputs: Inputs) -> Callable[[], int] | None:
    """Return a function that counts the inputs; None if they can be read only once.

    The function raises ValueError if it would have to read a whole archive.
    """

    def count_inputs() -> int:
        count = 0
        for source in take_shard_and_limit(search(inputs, selector_of(inputs)), inputs.shard, inputs.limit):
            if isinstance(source.content, SequentialContainer):
                raise ValueError(f"{source.path} has more than one")
            count += 1
        return count

    can_be_read_again = not is_live(inputs) and (inputs.files_from is None or os.path.isfile(inputs.files_from))
    return count_inputs if can_be_read_again else None
