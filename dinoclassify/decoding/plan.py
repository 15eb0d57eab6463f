"""The work of one decoding process, as data: which lists it has, and how they are split when an image kills it.

Whatever happens in between, each list becomes one batch with a result for every source, in order.
"""

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice

from dinoclassify.decoding.batch import Batch, DecodedImage, joined
from dinoclassify.storage.elsewhere import IN_FLIGHT, is_elsewhere
from dinoclassify.types.source import Source

PREFETCH = 2  # lists that a process has at a time


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A list of sources to decode, or a piece of one; ``alone`` marks an image that has already ended a process.

    ``given_up`` is the result of an image that is given up: such a task is not sent to a process.
    """

    sources: list[Source]
    ends_batch: bool = True
    alone: bool = False
    given_up: DecodedImage | None = None

    def split(self, position: int, given_up: DecodedImage | None) -> list["Task"]:
        """The sources before ``position``, the one there, alone, and those after it; without empty pieces."""
        before, after = Task(self.sources[:position]), Task(self.sources[position + 1 :])
        suspect = Task([self.sources[position]], alone=True, given_up=given_up)
        *pieces, last = (piece for piece in (before, suspect, after) if piece.sources)
        return [*(replace(piece, ends_batch=False) for piece in pieces), replace(last, ends_batch=self.ends_batch)]


class Plan:
    """The tasks of a worker that have no result yet, in order, and the finished parts of the batch that is due."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._parts: list[Batch] = []

    @property
    def is_empty(self) -> bool:
        """Whether every list has become a batch."""
        return not self._tasks

    @property
    def has_room(self) -> bool:
        """Whether another list fits.

        Up to `PREFETCH` lists do, and more lists of remote images until `IN_FLIGHT` images are queued behind them.
        """
        if len(self._tasks) < PREFETCH:
            return True
        ahead = sum(len(task.sources) for task in islice(self._tasks, PREFETCH, None))
        return ahead < IN_FLIGHT and any(map(is_elsewhere, self._tasks[-1].sources))

    @property
    def first(self) -> Task:
        """The task whose result comes next."""
        return self._tasks[0]

    @property
    def to_decode(self) -> list[Task]:
        """The tasks that a process decodes, in the order in which it gets them."""
        return [task for task in self._tasks if task.given_up is None]

    def add(self, sources: list[Source]) -> None:
        """Append a list."""
        self._tasks.append(Task(sources))

    def finish_first(self, part: Batch) -> Batch | None:
        """Take the result of the first task; returns the batch that it completes, if it does."""
        task = self._tasks.popleft()
        self._parts.append(part)
        if not task.ends_batch:
            return None
        batch, self._parts = joined(self._parts), []
        return batch

    def split(self, task: Task, position: int, given_up: DecodedImage | None) -> None:
        """Put the pieces of a task in its place; see `Task.split`."""
        tasks = list(self._tasks)
        at = tasks.index(task)
        tasks[at : at + 1] = task.split(position, given_up)
        self._tasks = deque(tasks)
