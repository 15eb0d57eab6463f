"""Results by torch's DataLoader, where torch runs the model."""

import itertools
import signal
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset

from dinoclassify.decoding.feeds.base import RECEIVE_TIMEOUT, ProcessDiedError, Receive
from dinoclassify.decoding.plan import PREFETCH
from dinoclassify.decoding.worker_process import DecodeDataset, Result, init_worker


def start(dataset: DecodeDataset, context: BaseContext, *, end_with_thread: bool) -> Receive:
    """Start a DataLoader with one process; see `feeds.base.StartFeed`."""
    handler = signal.getsignal(signal.SIGCHLD)
    results: Iterator[Result] = iter(
        DataLoader(
            cast(Dataset[Result], dataset),  # a DataLoader needs no more than its `__getitems__`
            batch_sampler=itertools.repeat([]),  # the lists come through the pipe
            collate_fn=_as_is,
            num_workers=1,
            prefetch_factor=PREFETCH,
            worker_init_fn=partial(_init, end_with_thread=end_with_thread),
            timeout=RECEIVE_TIMEOUT,
            multiprocessing_context=context,
        )
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)  # torch's own handler would raise in the middle of anything

    def receive() -> Result | None:
        try:
            return next(results)
        except RuntimeError as error:
            if "timed out" in str(error):  # the process is alive and at work
                return None
            raise ProcessDiedError from error

    return receive


def _init(_: int, *, end_with_thread: bool) -> None:
    init_worker(end_with_thread=end_with_thread)


def _as_is(result: Any) -> Any:  # typed as a DataLoader collates: from a list
    """The result itself: one of `DecodeDataset` needs no collating."""
    return result
