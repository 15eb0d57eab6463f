"""What stands on the command line -> the stream of inputs."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

from dinoclassify.cli import options
from dinoclassify.cli.terminal import say, writing_to_stdout
from dinoclassify.discovery.discover import find
from dinoclassify.discovery.expand import expand_container
from dinoclassify.discovery.filters import (
    Filters,
    InputSelector,
    Shard,
    describe_passed_over,
    describe_suffixes,
    take_shard_and_limit,
)
from dinoclassify.discovery.path_list import list_line
from dinoclassify.discovery.roots import check_roots
from dinoclassify.discovery.shard_positions import PackedPositions
from dinoclassify.errors import NoInputsError, OutputError, UsageError
from dinoclassify.messages import count_of, printable
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.source import SequentialContainer, Source

DASH = "-"  # stdin as an input, stdout as the output


def names_of(inputs: options.Inputs) -> list[str]:
    """What stands on the command line.

    Raises:
        UsageError: nothing does.
    """
    names = [*(inputs.paths or ()), *filter(None, [inputs.files_from])]
    if not names:
        raise UsageError("name images, folders or globs, - for a list on stdin, or --files-from a list")
    return names


def check_inputs(inputs: options.Inputs) -> None:
    """See that what PATHS name is there, see `check_roots`, and are tables where --column is given."""
    check_roots(inputs.paths or [], selector := selector_of(inputs))
    if selector.column is not None:
        for path in inputs.paths or ():
            if path != DASH and not is_url(path):  # those of a list and of stores are not known yet
                next(find([path], selector), None)


def print_inputs(inputs: options.Inputs, *, quiet: bool) -> None:
    """Print the path of each input, exactly, in the order of a run.

    Raises:
        NoInputsError, UsageError: as a run does.
        OutputError, OutputClosedError: stdout cannot be written.
    """
    names = names_of(inputs)
    check_inputs(inputs)
    if sys.stdout is None:
        raise OutputError("stdout is closed")
    listed = DASH in names or inputs.files_from is not None  # else -0 is for what is printed alone
    census = Census(inputs.shard) if inputs.shard is not None else None
    count, passed_over = 0, Counter[str]()
    for source in find_inputs(replace(inputs, null=inputs.null and listed), census, passed_over):
        with writing_to_stdout():
            sys.stdout.buffer.write(_shown(list_line(source.path, "on stdout", null=inputs.null)))
        count += 1
    if not (count or (census is not None and census.inputs)):
        raise nothing_found(inputs, passed_over)
    if not quiet:
        say("; ".join(filter(None, [count_of(count, "input"), describe_passed_over(passed_over)])))


def _shown(line: bytes) -> bytes:
    """A line for stdout: a terminal must not be steered by it."""
    if not sys.stdout.isatty():
        return line
    return printable(os.fsdecode(line[:-1])).encode("utf-8") + line[-1:]


def find_inputs(
    inputs: options.Inputs,
    census: "Census | None" = None,
    passed_over: Counter[str] | None = None,
    disks: dict[int, str] | None = None,
) -> Iterator[Source]:
    """The inputs, lazily; all are counted in the census, and where those are that are taken.

    For ``passed_over`` and ``disks`` see `InputSelector`.
    """
    selector = selector_of(inputs, passed_over, disks)
    found = chain.from_iterable(expand_container(source, selector) for source in search(inputs, selector))
    if census is None:
        return take_shard_and_limit(found, _filters(inputs))
    return census.noted(take_shard_and_limit(census.counted(found), _filters(inputs)))


class Census:
    """Where the inputs of a shard stand among all, of which there are ``inputs``: what `merge` has to know."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.inputs = 0
        self._positions = PackedPositions()

    def counted(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same sources: all there are."""
        for source in sources:
            self.inputs += 1
            yield source

    def noted(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same sources: those of the shard."""
        for source in sources:
            if source.position is not None:
                self._positions.add(source.position)
            yield source

    def taken(self, kept_before: int) -> dict[str, object]:
        """What stands in the meta of a file that begins with so many rows of other inputs."""
        return {
            "index": self._shard.index,
            "count": self._shard.count,
            "inputs": self.inputs,
            "kept_before": kept_before,
            "positions": self._positions.packed(),
        }


def search(inputs: options.Inputs, selector: InputSelector) -> Iterator[Source]:
    """The inputs before `--shard` and `--limit`, and without a look into what is read from front to back."""
    return find(inputs.paths or [], selector, files_from=inputs.files_from, column=inputs.column, null=inputs.null)


def nothing_found(inputs: options.Inputs, passed_over: Counter[str]) -> NoInputsError:
    """Why there are no inputs, and the cure. Where a pattern may have left them out, they are counted without it."""
    names = " ".join(names_of(inputs))
    if count := _count_without_patterns(inputs):
        patterns = [f"--include '{pattern}'" for pattern in inputs.include or ()]
        patterns += [f"--exclude '{pattern}'" for pattern in inputs.exclude or ()]
        verb = "all are left out by" if inputs.exclude else "none match"
        return NoInputsError(f"{count_of(count, 'image')} in {names}, {verb} {' '.join(patterns)}: change the pattern")
    if passed_over:
        files, cure = f"{count_of(passed_over.total(), 'file')} in {names}", "name those that are images all the same"
        return NoInputsError(f"{files}, none with the suffix of an image: {describe_suffixes(passed_over)}; {cure}")
    if not inputs.paths or inputs.paths == [DASH]:
        name = "on stdin" if names == DASH else names
        return NoInputsError(f"the list {name} has no paths in it: check what wrote it")
    return NoInputsError(f"no images in {names}: check what is in there, and whether its disk is mounted")


def _count_without_patterns(inputs: options.Inputs) -> int:
    """How many images there would be; 0 where that is not known, or there are no patterns."""
    again = second_look(replace(inputs, include=None, exclude=None, shard=None, limit=None))
    if again is None or not (inputs.include or inputs.exclude):
        return 0
    try:
        return sum(1 for _ in again())
    except ValueError:  # an archive would have to be read for that
        return 0


def selector_of(
    inputs: options.Inputs, passed_over: Counter[str] | None = None, disks: dict[int, str] | None = None
) -> InputSelector:
    """What steers the search. For ``passed_over`` and ``disks`` see `InputSelector`."""
    column = inputs.column if inputs.files_from is None else None
    return InputSelector(
        _filters(inputs), column=column, private=inputs.private_urls, passed_over=passed_over, disks=disks
    )


def _filters(inputs: options.Inputs) -> Filters:
    return Filters(
        include=inputs.include or (),
        exclude=inputs.exclude or (),
        hidden=inputs.hidden,
        follow=inputs.follow,
        shard=inputs.shard,
        limit=inputs.limit,
    )


def is_live(inputs: options.Inputs) -> bool:
    """Whether inputs come over time."""
    return DASH in names_of(inputs)


def second_look(inputs: options.Inputs) -> Callable[[], Iterator[Source]] | None:
    """A function that looks at the inputs again; None if they are gone once they were read."""
    again = not is_live(inputs) and (inputs.files_from is None or os.path.isfile(inputs.files_from))
    return partial(_look_briefly, inputs) if again else None


def _look_briefly(inputs: options.Inputs) -> Iterator[Source]:
    """The inputs, to be counted. Raises ValueError where all of an archive would have to be read for that."""
    for source in take_shard_and_limit(search(inputs, selector_of(inputs)), _filters(inputs)):
        if isinstance(source.content, SequentialContainer):
            raise ValueError(f"{source.path} has more than one")
        yield source
