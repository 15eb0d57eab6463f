"""What stores and servers say of an object -> a signature, as files have one."""

import email.utils
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from dinoclassify.storage.atomic import Signature

_SIZES = ("size", "contentlength")  # what it is called, see `signature`
_TIMES = ("lastmodified", "mtime", "updated", "modified", "created")  # best first
_TAGS = ("etag", "sha", "blobid")  # of which a store of Git objects has one of the last two
_SECOND = 10**9  # in ns
_LAST = 2**63 // _SECOND - 1  # in the year 2262: later ones cannot be written down in ns


def signature(entry: Mapping[str, Any]) -> Signature:
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
