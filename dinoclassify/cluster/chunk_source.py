"""A Ray Data source of the names of chunks, in the order in which they are planned."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_POLL = 0.1  # seconds between two requests for names
_MOST = 1000  # names in a message


class ChunkQueue:
    """The names of the chunks to classify. A reader that replaces a dead one reads them again from the beginning.

    At most ``ahead`` chunks are handed out before they are finished. Names are so small that Ray Data would not limit
    their number.
    """

    def __init__(self, ahead: int) -> None:
        self._names: list[str] = []
        self._most = ahead
        self._ended = False

    def add(self, name: str) -> None:
        """Add a chunk."""
        self._names.append(name)

    def finish(self) -> None:
        """Count one chunk as finished, so that one more may be handed out."""
        self._most += 1

    def end(self) -> None:
        """Declare that no chunk follows."""
        self._ended = True

    def after(self, number: int) -> tuple[list[str], bool]:
        """Return names from the ``number``-th on, and whether they are the last."""
        names = self._names[number : min(number + _MOST, self._most)]
        return names, self._ended and number + len(names) >= len(self._names)


class ChunkSource(Datasource):
    """The names in a queue, as a source of Ray Data."""

    def __init__(self, queue: "ActorHandle[Any]") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of ray
        self._queue = queue

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown."""
        return None

    def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
        """Return the one task that reads the queue."""
        queue = self._queue
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _read(queue), unknown)]


def _read(queue: "ActorHandle[Any]") -> Iterator[pa.Table]:
    names: list[str]
    number, ended = 0, False
    while not ended:
        names, ended = ray.get(queue.after.remote(number))
        for name in names:
            yield pa.table({"chunk": [name]})
        number += len(names)
        if not names and not ended:
            time.sleep(_POLL)
