"""Signatures: the size and time by which a file or an object is known to be unchanged."""

import email.utils
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from dinoclassify.types.source import Signature

Identity = tuple[int, int]  # the device and inode of a folder

_SIZES = ("size", "contentlength")  # what it is called, see `entry_signature`
_TIMES = ("lastmodified", "mtime", "updated", "modified", "created")  # best first
_TAGS = ("etag", "sha", "blobid")  # of which a store of Git objects has one of the last two
_SECOND = 10**9  # in ns
_LAST = 2**63 // _SECOND - 1  # in the year 2262: later ones cannot be written down in ns


def entry_signature(entry: Mapping[str, Any]) -> Signature:
    """What tells whether an object has changed: its size, and its time with a digest of its ETag for a fraction.

    So it is a true time to the second; without a time it is 1970 to the second, and None where there is no ETag either.
    ``entry`` is what is said of the object, in whatever words: an entry of a listing, an answer of its own, or headers.
    """
    facts = {re.sub("[-_]", "", name).lower(): value for name, value in entry.items() if value is not None}
    size = next((int(facts[name]) for name in _SIZES if name in facts), None)
    if size is None:
        return None, None
    time = next((seconds(facts[name]) for name in _TIMES if name in facts), None)
    tag = next((str(facts[name]).strip('"') for name in _TAGS if name in facts), "")
    if time is None and not tag:
        return size, None
    digest = hashlib.blake2b(tag.encode(), digest_size=8).digest()
    return size, min(max(time or 0, 0), _LAST) * _SECOND + int.from_bytes(digest, "big") % _SECOND


def seconds(time: object) -> int | None:
    """A time as they write it: as such, as a number, or as text in the way of ISO 8601 or of HTTP."""
    if isinstance(time, int | float):
        return int(time)
    moment = time if isinstance(time, datetime) else _parsed(str(time))
    if moment is None:
        return None
    return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())


def _parsed(time: str) -> datetime | None:
    for parse in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        with suppress(ValueError):
            return parse(time)
    return None


def file_signature(path: str) -> Signature:
    """What tells whether a file has changed; None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def folder_identity(folder: str) -> Identity | None:
    """What tells whether a path still leads to the same folder; None where there is none, or it is out of reach."""
    try:
        status = os.stat(os.path.join(folder, ""))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def same_signature(one: tuple[int | None, int | None], other: tuple[int | None, int | None]) -> bool:
    """Whether two signatures are equal, with times compared as doubles: jq and other tools round long numbers so.

    Two sizes without a time show nothing.
    """
    (size, mtime_ns), (other_size, other_mtime_ns) = one, other
    if mtime_ns is None or other_mtime_ns is None:
        return one == other == (None, None)
    try:
        return size == other_size and float(mtime_ns) == float(other_mtime_ns)
    except OverflowError:  # a row may hold any number
        return False
