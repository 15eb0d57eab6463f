"""What ends a run early: SIGINT, SIGTERM, and a reader of stdout that goes away.

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

stopped: "list[Stopped]" = []  # raised by `stop_at_once`

_CLEAR_LINE = b"\r\x1b[K"  # removes the bar


class Stopped(BaseException):
    """A signal ends the run. ``is_said``: whether the user has seen the message."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        self.is_said = False


def stop_at_once(number: int, frame: FrameType | None) -> Never:
    """Handle a signal while no rows are written: there is nothing to finish."""
    signal.signal(number, signal.SIG_DFL)
    if _is_importing(frame):  # libraries swallow the exception, or C++ code aborts
        exit_at_once(number, frame)
    stop = Stopped(number)
    stopped.append(stop)

    def end() -> None:
        if stop.is_said:
            os._exit(stop.exit_code)
        exit_at_once(number, frame)

    _after_grace(end)  # in case a library swallows the exception
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
    """Yield a function that returns whether a signal has come. If one has, `Stopped` is raised after the block.

    If the batches under way take longer than `GRACE` seconds, or a second signal comes, the process ends at once; what
    it has written is whole at any time.

    Args:
        last_words: called with the reason before the run ends, except after a second signal.
        usual: whether signals are how the run usually ends: then the exit code after `GRACE` is 0.
    """
    stops: list[Stopped] = []
    words = threading.Lock()  # held by the thread that calls `last_words`

    def finish(number: int, _: FrameType | None) -> None:
        if stops:
            os._exit(128 + number)
        stops.append(Stopped(number))
        _after_grace(end)
        message = b"dinoclassify: stopping after the batches under way; again to stop at once\n"
        with suppress(OSError):  # not by `print`, which the signal may have interrupted
            os.write(2, (_CLEAR_LINE if os.isatty(2) else b"") + message)

    def end() -> None:
        try:
            if words.acquire(timeout=GRACE):
                last_words(stops[0])
        finally:
            os._exit(0 if usual else stops[0].exit_code)

    before = {number: signal.signal(number, finish) for number in SIGNALS}
    try:
        yield lambda: bool(stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        words.acquire()
        last_words(stops[0])
        raise stops[0]


@contextmanager
def hanging_up() -> "Iterator[SimpleQueue[None]]":
    """Yield a queue that gets an item with each SIGHUP, which asks a service to reopen its output.

    If the run has lost the terminal it was started in, SIGHUP acts as SIGTERM. If it is ignored, as under nohup, it
    stays ignored.
    """
    queue: SimpleQueue[None] = SimpleQueue()  # reentrant: a signal may interrupt its `put`
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
def ending_with_reader(before_end: Callable[[], None] = lambda: None) -> Iterator[None]:
    """End the process with exit code 0 and no message as soon as stdout is a pipe that nobody reads any more.

    ``before_end`` is called in a thread of its own before that.
    """
    over = threading.Event()
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)

    def look() -> None:
        while not over.wait(_POLL):
            if any(events & select.POLLERR for _, events in stdout.poll(0)):
                try:
                    before_end()
                finally:
                    os._exit(0)

    thread = threading.Thread(target=look, name="watch stdout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
