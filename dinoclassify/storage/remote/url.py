"""URLs as text: which paths are URLs, and of which kind."""

import re

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # a scheme of one letter is a drive of Windows
_S3 = frozenset({"s3", "s3a"})
_FOR_LISTS = _S3 | {"http", "https", "gs", "gcs", "az", "abfs", "abfss"}


def is_url(path: str) -> bool:
    """Whether an input or output is named by a URL."""
    return _URL.match(path) is not None


def is_web(path: str) -> bool:
    """Whether an input is named by an http or https URL."""
    return path[:8].lower().startswith(("http://", "https://"))


def is_s3(path: str) -> bool:
    """Whether a path is a URL of S3."""
    return scheme_of(path) in _S3


def is_for_lists(path: str) -> bool:
    """Whether an untrusted list may name a path: a local one, or a URL of the web or of an object store.

    Other schemes can lead into the private network, past the check of addresses in `storage.remote.web`.
    """
    return not is_url(path) or scheme_of(path) in _FOR_LISTS


def scheme_of(path: str) -> str:
    """The scheme of a URL in lower case; ``file`` for a local path."""
    match = _URL.match(path)
    return match.group(1).lower() if match else "file"
