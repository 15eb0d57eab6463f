"""Which inputs of a run belong to its shard: what `merge` needs to put shards together."""

from collections.abc import Iterable, Iterator

from dinoclassify.discovery.filters import Shard
from dinoclassify.discovery.shard_positions import PackedPositions
from dinoclassify.types.source import Source


class ShardCensus:
    """Counts all inputs of a run, and records the positions of those in the shard.

    Attributes:
        inputs: the number of all inputs so far.
    """

    def __init__(self, shard: Shard) -> None:
        self.inputs = 0
        self._shard = shard
        self._positions = PackedPositions()

    def count(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources: all inputs."""
        for source in sources:
            self.inputs += 1
            yield source

    def record(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources: those of the shard."""
        for source in sources:
            if source.position is not None:
                self._positions.add(source.position)
            yield source

    def metadata(self, kept_before: int) -> dict[str, object]:
        """Return the entry for the run metadata of a file that begins with ``kept_before`` rows of other inputs."""
        return {
            "index": self._shard.index,
            "count": self._shard.count,
            "inputs": self.inputs,
            "kept_before": kept_before,
            "positions": self._positions.packed(),
        }
