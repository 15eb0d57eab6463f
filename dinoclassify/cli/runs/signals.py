"""What ends a run before its time: SIGINT, SIGTERM, and a reader of stdout that goes away.

While rows are written the first signal ends the run after the batches under way, the second at once.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import Never

from dinoclassify.__main__ import exit_at_once

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 4.0  # seconds for the batches under way
_POLL = 0.5  # seconds between two looks at stdout

stopped: "list[Stopped]" = []  # what `stop_at_once` has raised

_CLEAR_LINE = b"\r\x1b[K"  # of the bar


class Stopped(BaseException):
    """A signal asked the run to end. ``is_said``: whether the user has been told."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        self.is_said = False


def stop_at_once(number: int, frame: FrameType | None) -> Never:
    """The handler for all the time in which no rows are written: there is nothing to finish."""
    signal.signal(number, signal.SIG_DFL)
    if _is_importing(frame):  # libraries swallow what is raised then, or C++ code aborts
        exit_at_once(number, frame)
    stop = Stopped(number)
    stopped.append(stop)

    def end() -> None:
        if stop.is_said:
            os._exit(stop.exit_code)
        exit_at_once(number, frame)

    _after_grace(end)  # should a library swallow what is raised here
    raise stop


def _after_grace(end: Callable[[], None]) -> None:
    timer = threading.Timer(GRACE, end)
    timer.daemon = True
    timer.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


@contextmanager
def finishing_batches(last_words: Callable[[Stopped], None], *, usual: bool = False) -> Iterator[Callable[[], bool]]:
    """A function that says whether a signal has asked the run to end. If one has, the block ends with `Stopped`.

    When the batches under way take longer than `GRACE`, or another signal comes, the process ends without waiting for
    them: what it has written is whole at any time. ``last_words`` are said in every case but the last. Where it is
    ``usual`` that a signal ends the run, the exit code is then 0 all the same.
    """
    asked: list[Stopped] = []
    words = threading.Lock()  # held by the thread that says the last words

    def finish(number: int, _: FrameType | None) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(Stopped(number))
        _after_grace(end)
        message = b"dinoclassify: stopping after the batches under way; again to stop at once\n"
        with suppress(OSError):  # by itself: what else prints may be in the middle of it
            os.write(2, (_CLEAR_LINE if os.isatty(2) else b"") + message)

    def end() -> None:
        try:
            if words.acquire(timeout=GRACE):
                last_words(asked[0])
        finally:
            os._exit(0 if usual else asked[0].exit_code)

    before = {number: signal.signal(number, finish) for number in SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        words.acquire()
        last_words(asked[0])
        raise asked[0]


@contextmanager
def hanging_up() -> "Iterator[SimpleQueue[None]]":
    """A queue that gets an item with each SIGHUP, as services take it: to reopen their output.

    Where the terminal that began the run has gone, it is SIGTERM. Where it is ignored, as nohup has it, it stays so.
    """
    queue: SimpleQueue[None] = SimpleQueue()  # whose `put` may interrupt another
    in_terminal = _has_terminal()

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        if in_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            queue.put(None)

    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, hang_up)
    try:
        yield queue
    finally:
        signal.signal(signal.SIGHUP, before)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def ending_with_reader() -> Iterator[None]:
    """End the process, quietly and with exit code 0, as soon as stdout is a pipe that nobody reads any more."""
    over = threading.Event()
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)

    def look() -> None:
        while not over.wait(_POLL):
            if any(events & select.POLLERR for _, events in stdout.poll(0)):
                os._exit(0)

    thread = threading.Thread(target=look, name="look after stdout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
