"""What a feed is: it starts a process that decodes, and receives its results."""

from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Protocol

from dinoclassify.decoding.worker_process import DecodeDataset, Result

RECEIVE_TIMEOUT = 0.1  # seconds of one wait for a result

# The next result of the process, in order; None if it does not come within `RECEIVE_TIMEOUT` seconds. Raises
# `ProcessDiedError` once there are no more.
Receive = Callable[[], Result | None]


class ProcessDiedError(Exception):
    """The process has died."""


class StartFeed(Protocol):
    """Starts a process of ``context`` in which ``dataset`` decodes.

    If ``end_with_thread``, the process ends with the calling thread.
    """

    def __call__(self, dataset: DecodeDataset, context: BaseContext, *, end_with_thread: bool) -> Receive:
        """Start it."""
