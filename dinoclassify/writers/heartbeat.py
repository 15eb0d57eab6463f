"""How monitoring sees a run that does not end: a status file, and messages for systemd (sd_notify)."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import as_output_errors, replacing

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two beats, at least


class Heartbeat:
    """Reports every few seconds that the run is well, as long as `beat` is called. Any thread may call it.

    Each beat replaces the status file ``path``, if any, which the caller has locked. ``describe`` returns its content
    besides the time and the process.
    """

    def __init__(self, path: str | None, describe: Callable[[], Mapping[str, object]]) -> None:
        self._path = os.path.realpath(path) if path is not None else None  # a link stays a link
        self._describe = describe
        self._lock = threading.Lock()
        self._next = 0.0
        self._is_over = self._has_failed = False

    def start(self) -> None:
        """Report that the run is ready."""
        notify("READY=1")
        self.beat()

    def beat(self) -> None:
        """Report that the run is well, unless it did so less than `EVERY` seconds ago."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            try:
                if not self._is_over:
                    self._report("watching")
            finally:
                self._lock.release()

    def stop(self) -> None:
        """Report that the run has ended."""
        with self._lock:
            self._is_over = True
            self._report("stopped")

    def _report(self, state: str) -> None:
        self._next = time.monotonic() + EVERY
        content = {"state": state, "time": utc(time.time()), "pid": os.getpid(), **self._describe()}
        notify(f"WATCHDOG=1\nSTATUS={content['rows']} rows, {content['failed']} failed, {content['waiting']} waiting")
        if self._path is None:
            return
        try:
            with replacing(self._path) as file, as_output_errors(self._path):
                file.write(json.dumps(content, indent=2).encode("ascii") + b"\n")
            self._has_failed = False
        except OutputError as error:  # go on: the age of the file shows that something is wrong
            if not self._has_failed:
                log.warning("%s", error)
            self._has_failed = True


def utc(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, such as ``2026-11-29T22:06:11Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def notify(message: str) -> None:
    """Send a message to the socket in ``NOTIFY_SOCKET``, as systemd sets it; do nothing if nobody listens there."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(1)
        channel.sendto(message.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
