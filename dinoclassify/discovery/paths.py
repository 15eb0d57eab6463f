"""Paths as text: which spellings name the same file."""

import os
from functools import lru_cache

from dinoclassify.discovery.archives import split_key
from dinoclassify.storage.remote.object_store import is_url
from dinoclassify.types.source import MEMBER


def absolute_path(path: str, folder: str) -> str:
    """The absolute path of an input: ``photos/a.jpg``, ``./photos/a.jpg`` and ``$PWD/photos/a.jpg`` give the same.

    A URL stays as it is, and so does a name in an archive. Symbolic links are not resolved: two links to one file are
    two inputs.

    Args:
        path: as a user or a row names it.
        folder: where a relative path begins.
    """
    if is_url(path):
        return path
    if (key := split_key(path)) is not None:
        archive, member = key
        return f"{absolute_path(archive, folder)}{MEMBER}{member}"
    head, _, tail = path.rpartition("/")
    if tail in {"", ".", ".."}:
        return _absolute(path, folder)
    return f"{_absolute(head or ('/' if path.startswith('/') else '.'), folder).rstrip('/')}/{tail}"


@lru_cache(maxsize=4096)  # the folders of a walk come one after the other
def _absolute(head: str, folder: str) -> str:
    parts: list[str] = []
    for part in os.path.join(folder, head).split("/"):
        if part == ".." and parts and not (parts[-1] == ".." or os.path.islink("/" + "/".join(parts))):
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def is_relative_file(path: str) -> bool:
    """Whether a path names a file of this machine, or a member of one, from the working folder on."""
    return not is_url(path) and not path.startswith("/")
