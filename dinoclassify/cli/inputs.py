"""What stands on the command line -> the stream of inputs."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

from dinoclassify.cli import options
from dinoclassify.containers import contents
from dinoclassify.discover import find
from dinoclassify.filters import Filters, Rules, Shard, part
from dinoclassify.positions import PackedPositions
from dinoclassify.roots import check_roots
from dinoclassify.sources import Source, Stream

DASH = "-"  # stdin as an input, stdout as the output


def names_of(inputs: options.Inputs) -> list[str]:
    """What stands on the command line."""
    return [*(inputs.paths or ()), *filter(None, [inputs.files_from])]


def check_inputs(inputs: options.Inputs) -> None:
    """See that what PATHS name is there, see `check_roots`."""
    check_roots(inputs.paths or [], rules_of(inputs))


def look(inputs: options.Inputs, census: "Census | None" = None) -> Iterator[Source]:
    """The inputs, lazily; all are counted in the census, and where those are that are taken."""
    rules = rules_of(inputs)
    found = chain.from_iterable(contents(source, rules) for source in search(inputs, rules))
    if census is None:
        return part(found, _filters(inputs))
    return census.noted(part(census.counted(found), _filters(inputs)))


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


def search(inputs: options.Inputs, rules: Rules) -> Iterator[Source]:
    """The inputs before `--shard` and `--limit`, and without a look into what is read from front to back."""
    return find(inputs.paths or [], rules, files_from=inputs.files_from, column=inputs.column, null=inputs.null)


def rules_of(inputs: options.Inputs) -> Rules:
    """What steers the search."""
    column = inputs.column if inputs.files_from is None else None
    return Rules(_filters(inputs), column=column, private=inputs.private_urls)


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
    for source in part(search(inputs, rules_of(inputs)), _filters(inputs)):
        if isinstance(source.content, Stream):
            raise ValueError(f"{source.path} has more than one")
        yield source
