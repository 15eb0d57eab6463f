"""A process that decodes, and what becomes of its work when it dies.

Each process has a DataLoader of its own, so that what one leaves behind when it is killed, a lock it held or half a
message, hurts no other. Lists of sources go to it through a pipe beside that: a DataLoader asks for the next list
before it returns a result, so a list that is still to come would hold up results.

The process notes in shared memory which image it is at. When it dies, another takes its place, and that image is
tried again alone: if it ends that process too, it is given up. An image that takes too long is given up at once.
Batches stay as they were, whatever happens in between.
"""

import atexit
import copy
import ctypes
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dinoclassify.decoding.decode import DecodedImage
from dinoclassify.decoding.shared_memory import ResultBuffer
from dinoclassify.decoding.worker_process import (
    BETWEEN,
    MAIN_SIGNALS,
    DecodeDataset,
    Progress,
    Result,
    as_is,
    init_worker,
)
from dinoclassify.errors import WorkerError
from dinoclassify.storage.budget import Share
from dinoclassify.storage.fetcher import IN_FLIGHT, is_elsewhere
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

log = logging.getLogger(__name__)

PREFETCH = 2  # batches under way in a process
RESTARTS = 32  # in a row, without one result in between: then the run ends
START = 60.0  # seconds that a process may take to begin
LINGER = 0.1  # seconds for which a result is waited for at a time

_UNSENT = Source("", Failure("out_of_memory", "not enough memory to hand it to a process that decodes"))
_DYING = 1.0  # seconds that a process which is killed may take to end
_LOOKS = 10  # at a process, in the time that an image may take


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of inputs in order, and the pixels of those that decoded.

    ``inputs`` is what became of each, without its pixels; ``pixels`` is N x 3 x H x W, uint8 or an `OpaqueProcessor`'s
    float32, with one row for each input that has no failure, in the same order. The seconds are those that a worker has
    spent on it.
    """

    inputs: list[DecodedImage]
    pixels: Tensor
    read_seconds: float
    decode_seconds: float


def _no_batch() -> Batch:
    return Batch([], torch.empty((0, 3, 0, 0)), 0.0, 0.0)


# Placeholders where inputs come over time and no batch is ready: the pipeline finishes what it has started.
NOTHING_CAME = _no_batch()  # no input
NOT_READY = _no_batch()  # inputs that are being read and decoded


class Worker:
    """A process that decodes the lists of sources it is sent, in order.

    Args:
        decode: what is done with each source, in the process.
        timeout: seconds that an image may take to decode, and as many to read if it is not on this machine.
        private: see `storage.remote.web`.
        share: what the process may hold of the budget of the run.
        pinned: have the pixels in memory that CUDA can copy from by itself.

    Raises:
        WorkerError: no process can be started.
    """

    def __init__(
        self,
        decode: Callable[[Source], DecodedImage],
        *,
        timeout: float,
        private: bool,
        share: Share,
        pinned: bool,
    ) -> None:
        self._decode = decode
        self._timeout = timeout
        self._private = private
        self._share = share
        self._pinned = pinned
        self._slots = ResultBuffer(PREFETCH + 1)
        self._plan: deque[_Task] = deque()  # what is under way, in order
        self._parts: list[Batch] = []  # of the batch that is due, as far as they are there
        self._restarts = 0
        self._received = 0  # from this process
        self._seen, self._still = 0, 0.0  # the last step that was seen, and for how many seconds
        self._awaited = False
        self._overdue: int | None = None  # the step at which the process was killed for its slowness
        self._results: Iterator[Result] = iter(())
        self._processes: list[BaseProcess] = []  # the one, or none
        self._burying = threading.Lock()  # held by whoever gives back what a dead process has left
        self._start()

    @property
    def is_idle(self) -> bool:
        """Whether all that it was sent has been received."""
        return not self._plan

    @property
    def has_room(self) -> bool:
        """Whether to send it another list: it has `PREFETCH`, and more where it reads `IN_FLIGHT` images ahead."""
        if len(self._plan) < PREFETCH:
            return True
        ahead = sum(len(task.sources) for task in itertools.islice(self._plan, PREFETCH, None))
        return ahead < IN_FLIGHT and any(map(is_elsewhere, self._plan[-1].sources))

    def send(self, sources: list[Source]) -> None:
        """Have a list decoded."""
        self._plan.append(_Task(sources))
        self._outbox.put(sources)

    def receive(self) -> Batch:
        """The batch of the first list that has none, whatever happens to the process.

        Raises:
            WorkerError: too many processes in a row have died, or no other can be started.
        """
        while (batch := self.receive_soon()) is None:
            pass
        return batch

    def receive_soon(self) -> Batch | None:
        """The same, or None if it is not there in `LINGER` seconds."""
        while True:
            task = self._plan[0]
            try:
                part = self._next_result(task) if task.verdict is None else _given_up(task.verdict)
            except _LostError:
                self._restart()
                continue
            if part is None:
                return None
            self._parts.append(part)
            self._plan.popleft()
            if task.ends_batch:
                batch, self._parts = _joined(self._parts), []
                return batch

    def look(self, seconds: float) -> None:
        """Kill the process if it has stood still for too long; to be called every so many ``seconds``."""
        with self._burying:  # others may wait for it, and the run for those
            if self._processes and not any(process.is_alive() for process in self._processes):
                self._share.clear()
        step, decoding = self._progress.step, self._progress.position != BETWEEN
        if step != self._seen:
            self._seen, self._still = step, 0.0
        elif decoding or self._awaited:
            self._still += seconds
        if self._still > (self._timeout if decoding else max(self._timeout, START)):
            self._overdue = step
            self._kill()

    def stop(self) -> None:
        """End the process."""
        self._kill()
        self._outbox.put(None)
        self._results = iter(())

    def _start(self) -> None:
        self._progress = RawValue(Progress, 0, BETWEEN, 0, -1, 0)
        self._received, self._seen, self._still, self._overdue = 0, 0, 0.0, None
        processes: list[BaseProcess] = []
        context, is_main = _context(processes), threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD)
        with _starting():
            lists, self._outbox = _lists_to_process(context)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, MAIN_SIGNALS)  # else the new process answers them, too
        try:
            with _starting():
                self._results = iter(
                    DataLoader(
                        DecodeDataset(
                            self._decode,
                            lists,
                            self._slots,
                            self._progress,
                            timeout=self._timeout,
                            private=self._private,
                            share=self._share,
                        ),
                        batch_sampler=itertools.repeat([]),  # the lists come through the pipe
                        collate_fn=as_is,
                        num_workers=1,
                        prefetch_factor=PREFETCH,
                        worker_init_fn=partial(init_worker, tied=is_main),
                        timeout=LINGER,
                        multiprocessing_context=context,
                    )
                )
        except WorkerError:
            for process in processes:
                if process.pid is not None:  # it has begun, without the thread that would have been its other end
                    process.kill()
            self._outbox.put(None)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            lists.close()  # only the process has it: when that dies, nobody waits for it to read
        self._processes = processes
        for task in self._plan:
            if task.verdict is None:
                self._outbox.put(task.sources)
        if is_main:
            signal.signal(signal.SIGCHLD, handler)  # torch's own would raise, in the middle of anything

    def _next_result(self, task: "_Task") -> Batch | None:
        self._awaited = True
        try:
            result = next(self._results)
        except RuntimeError as error:
            if "timed out" in str(error):  # the process lives, it is at work
                return None
            raise _LostError from error
        finally:
            self._awaited = False
        pixels, items = self._slots.read(self._received, result.written, pinned=self._pinned)
        self._received += 1
        self._restarts = 0
        sources = (source.without_bytes() for source in task.sources)
        inputs = [replace(item, source=source) for item, source in zip(items, sources, strict=True)]
        return Batch(inputs, pixels, result.read_seconds, result.decode_seconds)

    def _restart(self) -> None:
        """Plan again what was under way, and start another process."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise WorkerError(f"{RESTARTS} processes that decode died in a row: is there memory enough for --workers?")
        self.stop()
        plan, under_way = list(self._plan), [task for task in self._plan if task.verdict is None]
        lost, position = self._progress.tasks - self._received - 1, self._progress.position
        if position != BETWEEN and 0 <= lost < len(under_way):
            task = under_way[lost]
            if self._overdue == self._progress.step:
                self._restarts = 0  # it was the image's fault, and that is settled
            at = plan.index(task)
            plan[at : at + 1] = task.split(position, self._verdict(task, task.sources[position]))
            self._plan = deque(plan)
            log.warning("a process that decodes died at %s: starting another", task.sources[position].path)
        else:
            log.warning("a process that decodes died: starting another")
        for process in self._processes:
            process.join(_DYING)
        with self._burying:
            self._share.clear()
            self._processes = []
        self._start()

    def _verdict(self, task: "_Task", source: Source) -> DecodedImage | None:
        """What is said of the image that the process died at; nothing if it is to be tried again."""
        if self._overdue == self._progress.step:
            failure = Failure("timeout", f"took longer than {self._timeout:g} s")
        elif task.alone:
            failure = Failure("worker_crashed", "ended the process that decoded it, twice")
        else:
            return None
        size, mtime_ns = self._progress.size, self._progress.mtime_ns
        return DecodedImage(source, failure=failure, size=size if size >= 0 else None, mtime_ns=mtime_ns or None)

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


@contextmanager
def watchdog(workers: Sequence[Worker], timeout: float) -> Iterator[None]:
    """Kill the workers that hang, as long as the block lasts, and all of them in the end.

    The end of the program is one: a caller may still hold the rows it has not asked for, and Python waits at its exit
    for all processes.
    """
    over, owner = threading.Event(), os.getpid()
    interval = min(timeout / _LOOKS, 1.0)

    def look() -> None:
        while not over.wait(interval):  # time in which this process was stopped as well does not count
            for worker in workers:
                worker.look(interval)

    def stop() -> None:
        if os.getpid() != owner:
            return  # the end of a process that the program has forked
        over.set()
        thread.join()
        for worker in workers:
            worker.stop()

    thread = threading.Thread(target=look, name="look after workers", daemon=True)
    thread.start()
    atexit.register(stop)
    try:
        yield
    finally:
        atexit.unregister(stop)
        stop()


class _Flag:
    """A `multiprocessing.Event` without its lock: for that, one would wait for ever if the other is killed with it."""

    def __init__(self) -> None:
        self._value = RawValue(ctypes.c_bool, False)

    def is_set(self) -> bool:
        return bool(self._value.value)

    def set(self) -> None:
        self._value.value = True


def _context(processes: list[BaseProcess]) -> BaseContext:
    """How processes are started: as the program has chosen, else by fork on Linux, which takes milliseconds.

    All other ways import torch anew, which takes seconds. The context is a copy, but for the one lock that a DataLoader
    shares with its process, and for ``processes``, which is told of each.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    is_default = method is None or (method == "forkserver" and sys.version_info >= (3, 14))
    usual = multiprocessing.get_context("fork" if is_default and sys.platform == "linux" else method)

    def process(*args: Any, **options: Any) -> BaseProcess:
        processes.append(usual.Process(*args, **options))  # type: ignore[attr-defined]  # every context has it
        return processes[-1]

    context = copy.copy(usual)
    context.Process = process  # type: ignore[attr-defined]  # every context has it
    context.Event = _Flag  # type: ignore[method-assign,assignment]  # torch asks no more of it
    return context


def _lists_to_process(
    context: BaseContext,
) -> "tuple[Connection[object, list[Source]], SimpleQueue[list[Source] | None]]":
    """The end of a pipe for a process, and a queue of what a thread sends to it, so that nobody waits for a full pipe.

    The thread ends with None, or with the process. A list for which there is no memory is sent as failures: if it were
    left out, its rows would get the pixels of the next.
    """
    reader, writer = context.Pipe(duplex=False)
    outbox: SimpleQueue[list[Source] | None] = SimpleQueue()

    def send() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])  # a dead reader is an error, not our end
        with writer, suppress(BrokenPipeError):
            while (sources := outbox.get()) is not None:
                try:
                    writer.send(sources)
                except MemoryError:
                    writer.send([_UNSENT] * len(sources))

    threading.Thread(target=send, name="send lists", daemon=True).start()
    return reader, outbox


@contextmanager
def _starting() -> Iterator[None]:
    """Say what keeps a process, or a thread for it, from being started.

    Raises:
        WorkerError: it cannot be started.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        is_refused = isinstance(error, BlockingIOError) or "can't start new thread" in str(error)
        cure = "more processes (ulimit -u)" if is_refused else "a larger /dev/shm"
        raise WorkerError(f"cannot start a process that decodes: {error}; try fewer --workers, or {cure}") from error


class _LostError(Exception):
    """The process is dead."""


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A batch that the process is to decode, or a piece of one.

    ``alone``: an image that has ended a process already; ``verdict``: what is said of an image that is given up.
    """

    sources: list[Source]
    ends_batch: bool = True
    alone: bool = False
    verdict: DecodedImage | None = None

    def split(self, position: int, verdict: DecodedImage | None) -> list["_Task"]:
        """What comes before the image at ``position``, that image alone, and what comes after it."""
        before, after = _Task(self.sources[:position]), _Task(self.sources[position + 1 :])
        suspect = _Task([self.sources[position]], alone=True, verdict=verdict)
        *pieces, last = (piece for piece in (before, suspect, after) if piece.sources)
        return [*(replace(piece, ends_batch=False) for piece in pieces), replace(last, ends_batch=self.ends_batch)]


def _given_up(verdict: DecodedImage) -> Batch:
    return Batch([verdict], torch.empty((0, 3, 0, 0)), 0.0, 0.0)


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    pixels = [part.pixels for part in parts if len(part.pixels)]
    return Batch(
        [item for part in parts for item in part.inputs],
        torch.cat(pixels) if pixels else parts[0].pixels,
        sum(part.read_seconds for part in parts),
        sum(part.decode_seconds for part in parts),
    )
