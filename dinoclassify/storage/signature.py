"""Signatures: the size and time that show whether a file or an object has changed."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from dinoclassify.types.source import Signature

FolderIdentity = tuple[int, int]  # the device and inode of a folder

# The names that stores use, in lower case without hyphens; the best first.
_SIZES = ("size", "contentlength")
_TIMES = ("lastmodified", "mtime", "updated", "modified", "created")
_TAGS = ("etag", "sha", "blobid")  # the last two are those of Git objects
_SECOND = 10**9  # in ns
_LAST = 2**63 // _SECOND - 1  # in the year 2262: later times do not fit 64 bits of ns


def entry_signature(entry: Mapping[str, Any]) -> Signature:
    """The signature of an object: its size, and its time in ns with a digest of its ETag in place of the fraction.

    The time is true to the second. Without a time it is 1970, and without an ETag too it is None. ``entry`` is the
    metadata of the object: an entry of a listing, a response, or headers.
    """
    values = {re.sub("[-_]", "", name).lower(): value for name, value in entry.items() if value is not None}
    size = next((int(values[name]) for name in _SIZES if name in values), None)
    if size is None:
        return None, None
    time = next((seconds(values[name]) for name in _TIMES if name in values), None)
    tag = next((str(values[name]).strip('"') for name in _TAGS if name in values), "")
    if time is None and not tag:
        return size, None
    digest = hashlib.blake2b(tag.encode(), digest_size=8).digest()
    return size, min(max(time or 0, 0), _LAST) * _SECOND + int.from_bytes(digest, "big") % _SECOND


def seconds(time: object) -> int | None:
    """A time in seconds, from a datetime, a number, or text in the format of ISO 8601 or HTTP; None if invalid."""
    if isinstance(time, int | float):
        return int(time)
    moment = time if isinstance(time, datetime) else _parsed(str(time))
    if moment is None:
        return None
    return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())


def _parsed(time: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # slow to import: only objects elsewhere have such times

    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError):
            return parse(time)
    return None


def file_signature(path: str) -> Signature:
    """The signature of a file; (None, None) if it does not exist or cannot be looked at."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def folder_identity(folder: str) -> FolderIdentity | None:
    """The identity of a folder, which shows whether a path still leads to it; None if it cannot be reached."""
    try:
        status = os.stat(os.path.join(folder, ""))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def same_signature(first: tuple[int | None, int | None], second: tuple[int | None, int | None]) -> bool:
    """Whether two signatures are equal. Times are compared as doubles, to which jq and other tools round them.

    Without a time, equal sizes do not count as equal.
    """
    (size, mtime_ns), (other_size, other_mtime_ns) = first, second
    if mtime_ns is None or other_mtime_ns is None:
        return first == second == (None, None)
    try:
        return size == other_size and float(mtime_ns) == float(other_mtime_ns)
    except OverflowError:  # a row may contain any number
        return False
