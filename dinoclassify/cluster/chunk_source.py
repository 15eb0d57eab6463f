"""The names of chunks as they are planned: a source of Ray Data, which can be read again from the beginning."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_POLL = 0.1  # seconds between two looks at what has been planned
_MOST = 1000  # names in a message


class ChunkQueue:
    """The names of the chunks that are to be answered, in order, for who asks for them; and again, if that one dies.

    No more than ``ahead`` chunks are given out before they are finished: of names, which are small, nothing else would
    hold back any number.
    """

    def __init__(self, ahead: int) -> None:
        self._names: list[str] = []
        self._most = ahead
        self._ended = False

    def add(self, name: str) -> None:
        """Add a chunk."""
        self._names.append(name)

    def finish(self) -> None:
        """A chunk is finished."""
        self._most += 1

    def end(self) -> None:
        """There are no more."""
        self._ended = True

    def after(self, number: int) -> tuple[list[str], bool]:
        """Some names from the ``number``-th on, and whether there will be no more behind them."""
        some = self._names[number : min(number + _MOST, self._most)]
        return some, self._ended and number + len(some) >= len(self._names)


class Plan(Datasource):
    """The names of the chunks as a source of Ray Data."""

    def __init__(self, todo: "ActorHandle[Any]") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of ray
        self._todo = todo

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
        """One task, which follows the plan."""
        todo = self._todo
        nothing = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _follow(todo), nothing)]


def _follow(todo: "ActorHandle[Any]") -> Iterator[pa.Table]:
    names: list[str]
    number, ended = 0, False
    while not ended:
        names, ended = ray.get(todo.after.remote(number))
        for name in names:
            yield pa.table({"chunk": [name]})
        number += len(names)
        if not names and not ended:
            time.sleep(_POLL)
