"""The last row of each image that a watch has seen: what need not be labelled again.

Rows stand in the output. Once that was rotated, those of before stand elsewhere; then they are kept beside it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dinoclassify.files import Signature, replacing, reporting, same_signature
from dinoclassify.rows import ErrorCode, Row, Status

SEEN = ".seen"  # stands behind the name of the output that the rows were in
FIRST_RETRY, LAST_RETRY = 10.0, 3600.0  # seconds until an image is tried again, which double each time

_PASSING = frozenset({"unreadable", "vanished", "timeout", "out_of_memory"})  # failures that may pass by themselves


@dataclass(frozen=True, slots=True)
class State:
    """What a file is like: its size in bytes, and when its content, or anything about it, has changed last."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def signature(self) -> Signature:
        """What its row would say of it."""
        return self.size, self.mtime_ns


@dataclass(frozen=True, slots=True)
class Seen:
    """The last row of an image.

    signature: of the file as it was read.
    status, error_code: of the row.
    earlier: an earlier run has made it.
    ctime_ns: of the file when it was given to be labelled; None if it is not known.
    pause: seconds between the last try and the next.
    retry_at: the time of that, by the monotonic clock.
    """

    signature: Signature
    status: Status
    error_code: ErrorCode | None = None
    earlier: bool = False
    ctime_ns: int | None = None
    pause: float = FIRST_RETRY
    retry_at: float = 0.0

    def is_outdated(self, state: State, now: float) -> bool:
        """Whether the image is to be labelled (again): it has changed, or its failure may have passed.

        A failure may also pass with a change of mode or owner, which shows in ctime alone.
        """
        if not same_signature(self.signature, state.signature):
            return True
        if self.error_code is None:
            return False
        is_touched = self.ctime_ns is not None and self.ctime_ns != state.ctime_ns
        return is_touched or (self.error_code in _PASSING and now >= self.retry_at)

    def followed_by(self, row: Row, state: State | None, now: float) -> "Seen":
        """What is known after another row of the same image; the pauses grow while its failure is the same."""
        after = seen_in(row, state, now)
        if after.error_code is None or after.error_code != self.error_code:
            return after
        pause = min(2 * self.pause, LAST_RETRY)
        return Seen(after.signature, after.status, after.error_code, False, after.ctime_ns, pause, now + pause)


def seen_in(row: Row, state: State | None, now: float) -> Seen:
    """What a row says of its image, which was given to be labelled in this ``state``."""
    code = row.failure.code if row.failure is not None else None
    ctime_ns = state.ctime_ns if state is not None else None
    retry_at = now + FIRST_RETRY
    return Seen(signature_in(row, state), row.status, code, False, ctime_ns, FIRST_RETRY, retry_at)


def signature_in(row: Row, state: State | None) -> Signature:
    """The signature in a row; or, where a file could not be read, the one with which it was given to be labelled."""
    if row.size is not None and row.mtime_ns is not None:
        return row.size, row.mtime_ns
    return state.signature if state is not None else (None, None)


def write_seen(path: str, made_with: Mapping[str, object], seen: Mapping[str, Seen], *, rights_of: str) -> None:
    """Write down the last rows of images, by absolute path, and what made them: all of it, or nothing changes.

    Raises:
        OutputError: they cannot be written.
    """
    with replacing(path, rights_of=rights_of) as file, reporting(path):
        file.write(_line(made_with))
        for image, last in seen.items():
            file.write(_line([image, *last.signature, last.status, last.error_code]))


def read_seen(path: str, made_with: Mapping[str, object]) -> Iterator[tuple[str, Seen]]:
    """What `write_seen` has written; nothing if something else has made those rows.

    Raises:
        OSError: it cannot be read.
        ValueError, TypeError: it holds something else.
    """
    with open(path, "rb") as file:
        if file.readline() != _line(made_with):
            return
        for line in file:
            image, size, mtime_ns, status, code = json.loads(line)
            yield image, Seen((size, mtime_ns), status, code, earlier=True)


def _line(content: object) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"
