"""How a decoding process is started: by which method, and with a pipe that brings it lists of sources."""

import copy
import ctypes
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from queue import SimpleQueue
from typing import Any

from dinoclassify.errors import WorkerError
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

_UNSENT = Source("", Failure("out_of_memory", "not enough memory to hand it to a process that decodes"))


def start_context(processes: list[BaseProcess]) -> BaseContext:
    """A context that starts processes as the program chose, by default by fork on Linux, which takes milliseconds.

    All other methods import the libraries anew, which takes a second, or seconds with torch. The context appends each
    process to ``processes``, and its `Event`, which a DataLoader shares with its process, has no lock. Otherwise it is
    multiprocessing's own.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    is_default = method is None or (method == "forkserver" and sys.version_info >= (3, 14))
    usual = multiprocessing.get_context("fork" if is_default and sys.platform == "linux" else method)

    def process(*args: Any, **options: Any) -> BaseProcess:
        processes.append(usual.Process(*args, **options))  # type: ignore[attr-defined]  # every context has it
        return processes[-1]

    context = copy.copy(usual)
    context.Process = process  # type: ignore[attr-defined]  # every context has it
    context.Event = _LocklessEvent  # type: ignore[method-assign,assignment]  # torch calls nothing else of it
    return context


class _LocklessEvent:
    """A `multiprocessing.Event` without its lock: a process killed while it held the lock would block the other."""

    def __init__(self) -> None:
        self._value = RawValue(ctypes.c_bool, False)

    def is_set(self) -> bool:
        return bool(self._value.value)

    def set(self) -> None:
        self._value.value = True


def open_list_pipe(context: BaseContext) -> "tuple[Connection[object, list[Source]], SimpleQueue[list[Source] | None]]":
    """The reading end of a pipe, for a process, and a queue whose lists a thread sends through the pipe.

    The queue never blocks, even when the pipe is full. The thread ends with None, or with the process. A list that
    there is no memory to send is sent as failures: leaving it out would give its rows the pixels of the next list.
    """
    reader, writer = context.Pipe(duplex=False)
    outbox: SimpleQueue[list[Source] | None] = SimpleQueue()

    def send() -> None:
        """Send the lists of the queue, until None or until nobody reads."""
        # A dead reader raises an error, rather than end this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        with writer, suppress(BrokenPipeError):
            while (sources := outbox.get()) is not None:
                try:
                    writer.send(sources)
                except MemoryError:
                    writer.send([_UNSENT] * len(sources))

    threading.Thread(target=send, name="send lists", daemon=True).start()
    return reader, outbox


@contextmanager
def start_errors() -> Iterator[None]:
    """Turn an error in starting a process, or a thread for it, into a one-line WorkerError that names a cure."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        is_refused = isinstance(error, BlockingIOError) or "can't start new thread" in str(error)
        cure = "more processes (ulimit -u)" if is_refused else "a larger /dev/shm"
        raise WorkerError(f"cannot start a decoding process: {error}; try fewer --workers, or {cure}") from error
