"""A worker: a process that decodes, and another in its place when it dies.

Each process has a feed of its own, see `decoding.feeds`: whatever a killed process leaves behind, a held lock or half a
message, cannot harm another. Lists of sources reach it through a separate pipe: a DataLoader asks for the next list
before it returns a result, so waiting for a list inside it would delay finished results.

The process notes in shared memory which image it is decoding. When it dies, another process takes its place and tries
that image again, alone; an image that ends this process too is given up. An image that takes too long is given up at
once. Batches keep their inputs and their order throughout; see `decoding.plan`.
"""

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue

from dinoclassify.decoding.batch import Batch, DecodedImage, without_pixels
from dinoclassify.decoding.feeds.base import ProcessDiedError, Receive, StartFeed
from dinoclassify.decoding.plan import PREFETCH, Plan, Task
from dinoclassify.decoding.process_start import open_list_pipe, start_context, start_errors
from dinoclassify.decoding.shared_memory import ResultBuffer
from dinoclassify.decoding.worker_process import BETWEEN, MAIN_SIGNALS, DecodeDataset, Progress
from dinoclassify.errors import WorkerError
from dinoclassify.storage.budget import Share
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

log = logging.getLogger(__name__)

MAX_RESTARTS = 32  # in a row, without a result in between: then the run ends
START_TIMEOUT = 60.0  # seconds that a process may take to begin

_DYING = 1.0  # seconds that a killed process may take to end
_CHECKS_PER_TIMEOUT = 10  # progress checks within the time limit of one image


class Worker:
    """Decodes the lists of sources that it is sent, in order, in a process of its own, or raises WorkerError.

    ``decode`` is called for each source, in the process. An image may take ``timeout`` seconds to decode, and as many
    to read if it is not on this machine. ``share`` is the part of the run's memory budget that the process may hold.
    ``start_feed`` starts the process. ``private``: see `storage.remote.web`.
    """

    def __init__(
        self,
        decode: Callable[[Source], DecodedImage],
        start_feed: StartFeed,
        *,
        timeout: float,
        private: bool,
        share: Share,
    ) -> None:
        self._decode, self._private, self._share = decode, private, share
        self._start_feed = start_feed
        self._timeout = timeout
        self._buffer = ResultBuffer(PREFETCH + 1)
        self._plan = Plan()
        self._restarts = 0
        self._received = 0  # results of this process
        self._last_step = 0
        self._stalled_seconds = 0.0  # how long the step has not changed
        self._awaited = False
        self._timed_out_step: int | None = None  # the step at which the process was killed for taking too long
        self._receive: Receive = _nothing
        self._processes: list[BaseProcess] = []  # at most one
        self._share_lock = threading.Lock()  # held while a dead process's memory share is released
        self._start()

    @property
    def is_idle(self) -> bool:
        """Whether the batches of all its lists have been received."""
        return self._plan.is_empty

    @property
    def has_room(self) -> bool:
        """Whether to send it another list; see `Plan.has_room`."""
        return self._plan.has_room

    def send(self, sources: list[Source]) -> None:
        """Queue a list for decoding."""
        self._plan.add(sources)
        self._outbox.put(sources)

    def receive(self) -> Batch:
        """The batch of the first list that has none yet; raises WorkerError if processes die again and again."""
        while (batch := self.receive_soon()) is None:
            pass
        return batch

    def receive_soon(self) -> Batch | None:
        """The same, or None if it does not come within `RECEIVE_TIMEOUT` seconds."""
        while True:
            task = self._plan.first
            try:
                part = self._next_result(task) if task.given_up is None else without_pixels([task.given_up])
            except ProcessDiedError:
                self._restart()
                continue
            if part is None:
                return None
            if (batch := self._plan.finish_first(part)) is not None:
                return batch

    def look(self, seconds: float) -> None:
        """Kill the process if it makes no progress for too long; call this every so many ``seconds``."""
        with self._share_lock:  # other processes may wait for this share, and the run for them
            if self._processes and not any(process.is_alive() for process in self._processes):
                self._share.clear()
        step, decoding = self._progress.step, self._progress.position != BETWEEN
        if step != self._last_step:
            self._last_step, self._stalled_seconds = step, 0.0
        elif decoding or self._awaited:
            self._stalled_seconds += seconds
        if self._stalled_seconds > (self._timeout if decoding else max(self._timeout, START_TIMEOUT)):
            self._timed_out_step = step
            self._kill()

    def stop(self) -> None:
        """End the process."""
        self._kill()
        self._outbox.put(None)
        self._receive = _nothing

    def join(self) -> None:
        """Wait for the end of the process, and free what the system keeps of it."""
        for process in self._processes:
            process.join(_DYING)

    def _start(self) -> None:
        self._progress = RawValue(Progress, 0, 0, BETWEEN, 0, -1, 0)
        self._received, self._last_step, self._stalled_seconds, self._timed_out_step = 0, 0, 0.0, None
        processes: list[BaseProcess] = []
        context, is_main = start_context(processes), threading.current_thread() is threading.main_thread()
        with start_errors():
            lists, self._outbox = open_list_pipe(context)
        dataset = DecodeDataset(
            self._decode, lists, self._buffer, self._progress, self._timeout, self._private, self._share
        )
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, MAIN_SIGNALS)  # else the new process answers them, too
        try:
            with start_errors():
                self._receive = self._start_feed(dataset, context, end_with_thread=is_main)
        except WorkerError:
            for process in processes:
                if process.pid is not None:  # it began, but the rest of its feed did not
                    process.kill()
            self._outbox.put(None)
            raise
        finally:
            lists.close()  # only the process holds it: when the process dies, the sender gets an error
            self._processes = [process for process in processes if process.pid is not None]
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # a signal that came meanwhile may raise an error here
        for task in self._plan.to_decode:
            self._outbox.put(task.sources)

    def _next_result(self, task: Task) -> Batch | None:
        """The result of ``task``; None if it takes over `RECEIVE_TIMEOUT` seconds; raises ProcessDiedError."""
        self._awaited = True
        try:
            result = self._receive()
        finally:
            self._awaited = False
        if result is None:
            return None
        pixels, facts = self._buffer.read(self._received, result.header)
        self._received += 1
        self._progress.received = self._received
        self._restarts = 0
        inputs = [
            DecodedImage(source.without_bytes(), None, *of_image)
            for source, of_image in zip(task.sources, facts, strict=True)
        ]
        return Batch(inputs, pixels, result.read_seconds, result.decode_seconds)

    def _restart(self) -> None:
        """Start another process for the tasks that have no result; the image that the last one died at goes alone."""
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            died = f"{MAX_RESTARTS} decoding processes died in a row"
            raise WorkerError(f"{died}, perhaps for lack of memory: try fewer --workers")
        self.stop()
        tasks = self._plan.to_decode
        lost, position = self._progress.tasks - self._received - 1, self._progress.position
        if position != BETWEEN and 0 <= lost < len(tasks):
            task = tasks[lost]
            if self._timed_out_step == self._progress.step:
                self._restarts = 0  # the image was the cause, and it is given up
            self._plan.split(task, position, self._given_up(task, task.sources[position]))
            log.warning("a decoding process died at %s: starting another", task.sources[position].path)
        else:
            log.warning("a decoding process died: starting another")
        self.join()
        with self._share_lock:
            self._share.clear()
            self._processes = []
        self._start()

    def _given_up(self, task: Task, source: Source) -> DecodedImage | None:
        """The result of the image that the process died at; None if it is to be tried again."""
        if self._timed_out_step == self._progress.step:
            failure = Failure("timeout", f"took longer than {self._timeout:g} s")
        elif task.alone:
            failure = Failure("worker_crashed", "crashed the process that decoded it, twice")
        else:
            return None
        size, mtime_ns = self._progress.size, self._progress.mtime_ns
        return DecodedImage(source, failure=failure, size=size if size >= 0 else None, mtime_ns=mtime_ns or None)

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


@contextmanager
def watchdog(workers: Sequence[Worker], timeout: float) -> Iterator[None]:
    """Kill workers that hang, as long as the block lasts, and stop all of them at its end or at that of the program.

    The latter matters when a caller still holds an iterator of rows that it has not exhausted: Python waits at its exit
    for all processes.
    """
    over, owner = threading.Event(), os.getpid()
    interval = min(timeout / _CHECKS_PER_TIMEOUT, 1.0)

    def look() -> None:
        while not over.wait(interval):  # time while this process itself is suspended does not count
            for worker in workers:
                worker.look(interval)

    def stop() -> None:
        """End the thread and all workers."""
        if os.getpid() != owner:
            return  # a process that the program has forked ends here, not the program
        over.set()
        thread.join()
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join()

    thread = threading.Thread(target=look, name="look after workers", daemon=True)
    thread.start()
    atexit.register(stop)
    try:
        yield
    finally:
        atexit.unregister(stop)
        stop()


def _nothing() -> None:
    """Receive nothing: there is no process."""
