"""Object stores, and everything else that fsspec knows by a URL: listing and opening their objects.

http and https URLs are opened here too. What reads, `storage.remote.content`, is imported by the functions that need
it: each run imports this module, and most have no URL.
"""

import errno
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import seekable, streamed
from dinoclassify.storage.remote.errors import os_errors
from dinoclassify.storage.remote.opening import filesystem, require_aiohttp
from dinoclassify.storage.remote.url import is_s3, is_web
from dinoclassify.storage.signature import entry_signature
from dinoclassify.types.source import Signature, Source

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ASKED = 32  # objects to ask about at the same time


def stat_object(url: str) -> Source | None:
    """The object at a URL, with its signature; None if there is none. Raises OSError. A web server is not asked."""
    if is_web(url):
        require_aiohttp()
        return Source(url)
    fs, path = filesystem(url)
    with os_errors():
        try:
            entry = s3.head(fs, url) if is_s3(url) else fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    if entry is None or entry.get("type") == "directory" or url.endswith("/"):
        return None
    return Source(url, signature=entry_signature(entry))


def objects(prefix: str) -> Iterator[Source]:
    """All objects below a prefix with their signatures, lazily, in the order of the store; raises OSError."""
    fs, path = filesystem(prefix)
    below = prefix if prefix.endswith("/") else f"{prefix}/"
    entries = s3.listing(fs, below) if is_s3(prefix) else _listing(fs, path, path, below)
    return _sources(entries)


def signatures(sources: Sequence[Source], *, private: bool = False) -> list[Signature]:
    """The signatures of objects, asked for concurrently; (None, None) if one does not exist or cannot be asked for."""
    if not sources:
        return []
    from concurrent.futures import ThreadPoolExecutor

    from dinoclassify.storage.remote.content import web_signature

    def ask(source: Source) -> Signature:
        """Ask for the signature of one object."""
        if source.signature is not None:
            return source.signature
        with suppress(OSError):
            if is_web(source.path):
                return web_signature(source.path, private=private)
            existing = stat_object(source.path)
            if existing is not None and existing.signature is not None:
                return existing.signature
        return None, None

    with ThreadPoolExecutor(_ASKED) as pool:
        return list(pool.map(ask, sources))


def exists(url: str) -> bool:
    """Whether there is an object at a URL; raises OSError if the store cannot be asked."""
    return stat_object(url) is not None


def open_file(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a seekable file, read in blocks; raises OSError."""
    from dinoclassify.storage.remote.content import fetcher

    size = _size(url, private=private)
    return seekable(fetcher(url, private=private), size)


def open_stream(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a file to read from front to back, with the next blocks read ahead; raises OSError."""
    from dinoclassify.storage.remote.content import fetcher, web_content

    try:
        size = _size(url, private=private)
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return io.BytesIO(web_content(url, private=private))
    return streamed(fetcher(url, private=private), size)


def _sources(entries: Iterator[tuple[str, Mapping[str, Any]]]) -> Iterator[Source]:
    with os_errors():
        for url, entry in entries:
            yield Source(url, signature=entry_signature(entry))


def _listing(fs: "AbstractFileSystem", folder: str, root: str, below: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The URLs and listing entries of all objects in a folder; ``below`` is the URL of ``root``, with a slash."""
    for entry in sorted(fs.ls(folder, detail=True), key=lambda entry: str(entry["name"])):
        name = entry["name"]
        if name.rstrip("/") == folder.rstrip("/"):  # the marker of the folder itself
            continue
        if entry["type"] != "directory":
            yield below + name.removeprefix(root).removeprefix("/"), entry
        else:
            yield from _listing(fs, name, root, below)


def _size(url: str, *, private: bool) -> int:
    if is_web(url):
        from dinoclassify.storage.remote.content import web_size

        require_aiohttp()
        return web_size(url, private=private)
    existing = stat_object(url)
    if existing is None or existing.signature is None or existing.signature[0] is None:
        raise FileNotFoundError("there is no such object")
    return existing.signature[0]
