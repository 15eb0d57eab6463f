"""Object stores, and everything else that fsspec knows by a URL: listing and reading their objects.

http and https URLs are read here too, by `storage.remote.web`.
"""

import asyncio
import errno
import functools
import io
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line
from dinoclassify.storage.budget import NoRoomError, Reserve, check_size
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import Fetch, seekable, streamed
from dinoclassify.storage.remote.errors import failure, os_errors
from dinoclassify.storage.remote.event_loop import keep_open, run_in_background
from dinoclassify.storage.remote.url import is_s3, is_web, scheme_of
from dinoclassify.storage.remote.web import get, head, require_aiohttp
from dinoclassify.storage.signature import entry_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Signature, Source

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ASKED = 32  # objects to ask about at the same time

# File systems that are never collected: in a forked process s3fs would wait a second for a loop that has stopped.
_alive: "dict[int, AbstractFileSystem]" = {}


def filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL or of a local path, and the path in it.

    Its options come from the store's own conventions: the environment, AWS's files, fsspec's configuration. Raises
    UsageError, as the functions below, if the scheme is unknown or needs a package that is not installed.
    """
    fs = _open(url)
    return fs, _path(fs, url)


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

    def ask(source: Source) -> Signature:
        """Ask for the signature of one object."""
        if source.signature is not None:
            return source.signature
        with suppress(OSError):
            if is_web(source.path):
                return entry_signature(run_in_background(head(source.path, private=private)).result())
            existing = stat_object(source.path)
            if existing is not None and existing.signature is not None:
                return existing.signature
        return None, None

    with ThreadPoolExecutor(_ASKED) as pool:
        return list(pool.map(ask, sources))


def exists(url: str) -> bool:
    """Whether there is an object at a URL; raises OSError if the store cannot be asked."""
    return stat_object(url) is not None


async def read(source: Source, *, private: bool = False, reserve: Reserve = check_size) -> Source:
    """The source, an object or a `ByteRange` of one, with its bytes and its signature, or with the failure to read it.

    The bytes of a member of an archive are still packed. A known signature stays: if the object has changed since then,
    a later run sees the change too. Raises NoRoomError, from ``reserve``; see `storage.budget.Reserve`.
    """
    try:
        return await _read(source, private=private, reserve=reserve)
    except NoRoomError:
        raise
    except Exception as error:  # stores raise nearly anything
        return replace(source, content=failure(error))


def open_file(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a seekable file, read in blocks; raises OSError."""
    fetch, size = _fetcher(url, private=private)
    return seekable(fetch, size)


def open_stream(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a file to read from front to back, with the next blocks read ahead; raises OSError."""
    try:
        fetch, size = _fetcher(url, private=private)
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return io.BytesIO(run_in_background(get(url, private=private)).result()[0])
    return streamed(fetch, size)


def _open(url: str, loop: asyncio.AbstractEventLoop | None = None) -> "AbstractFileSystem":
    """The file system of a URL: for blocking calls or, with a ``loop``, for coroutines if the file system has them."""
    from fsspec import get_filesystem_class

    scheme = scheme_of(url)
    if is_web(url):
        raise UsageError(
            f"{url}: {scheme}:// can only be read, one URL at a time: name a folder, or a store such as s3://"
        )
    try:
        kind = get_filesystem_class(scheme)
    except ImportError as error:
        cure = ": pip install 'dinoclassify[cloud]'" if is_s3(url) else f" an fsspec plug-in: {first_line(error)}"
        raise UsageError(f"{url}: {scheme}:// needs{cure}") from None
    except ValueError:
        raise UsageError(f"{url}: {scheme}:// is not known; is its fsspec plug-in installed?") from None
    # What looks like an option is part of a key in S3; elsewhere a URL may name a host or an account.
    options = s3.options() if is_s3(url) else kind._get_kwargs_from_urls(url)
    if kind.async_impl:
        options["use_listings_cache"] = False
        if loop is not None:
            options |= {"asynchronous": True, "loop": loop, "skip_instance_cache": True}
    try:
        fs = kind(**options)
    except Exception as error:  # each store has its own, for a missing option or a refused login
        raise UsageError(f"cannot open {url}: {first_line(error)}") from error
    if is_s3(url):
        fs.retries = 2 if loop is None else 1  # of interrupted bodies; `s3.get` retries by itself
    if loop is None:
        _alive[id(fs)] = fs
    return fs


def _path(fs: "AbstractFileSystem", url: str) -> str:
    path: str = fs._strip_protocol(url)
    return path


async def _read(source: Source, *, private: bool, reserve: Reserve) -> Source:
    if source.signature == (None, None):  # the store was asked in vain
        source = replace(source, signature=None)
    if isinstance(source.content, ByteRange):
        member = source.content
        end = member.offset + member.length
        reserve(member.length)
        content, _ = await _content(member.archive, member.offset, end, private=private, reserve=reserve)
        if len(content) < member.length:
            return replace(source, content=Failure("truncated", "the archive ends before it does"))
        return replace(source, content=content)
    known = source.signature
    if known is not None:
        reserve(known[0])
    content, signature = await _content(source.path, known=known, private=private, reserve=reserve)
    return replace(source, content=content, signature=known or signature)


async def _content(
    url: str,
    start: int | None = None,
    end: int | None = None,
    *,
    private: bool,
    known: Signature | None = None,
    reserve: Reserve = check_size,
) -> tuple[bytes, Signature | None]:
    """The bytes of an object or of a range of it. For all bytes also the signature: the known one or a new one."""
    if is_web(url):
        content, headers = await get(url, private=private, start=start, end=end, reserve=reserve)
        return content, entry_signature({**headers, "Content-Length": len(content)})
    fs = await _open_for_loop(url)
    if is_s3(url):
        content, response = await s3.get(fs, url, start, end, reserve)
        return content, entry_signature(response)
    path = _path(fs, url)
    if fs.async_impl:
        info, cat = fs._info, fs._cat_file
    else:
        info, cat = (functools.partial(asyncio.to_thread, function) for function in (fs.info, fs.cat_file))
    if start is None and known is None:
        known = entry_signature(await info(path))
        reserve(known[0])
    return await cat(path, start=start, end=end), known


async def _open_for_loop(url: str) -> "AbstractFileSystem":
    """The file system of a URL, opened once for the running event loop."""
    scheme = scheme_of(url)
    key = scheme if is_s3(url) else "/".join(url.split("/", 3)[:3])  # with a host or an account
    fs: AbstractFileSystem = await keep_open(key, functools.partial(_opened, url))
    return fs


async def _opened(url: str) -> "AsyncGenerator[AbstractFileSystem, None]":
    fs = _open(url, asyncio.get_running_loop())
    session = await fs.set_session() if hasattr(fs, "set_session") else None  # fsspec's name
    try:
        yield fs
    finally:
        if session is not None:
            await session.close()


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


def _fetcher(url: str, *, private: bool) -> tuple[Fetch, int]:
    """A function that starts reading a range of an object, and the size of the object in bytes."""

    async def fetch(start: int, end: int) -> bytes:
        with os_errors():
            content, _ = await _content(url, start, end, private=private)
        return content

    return lambda start, end: run_in_background(fetch(start, end)), _size(url, private=private)


def _size(url: str, *, private: bool) -> int:
    if is_web(url):
        require_aiohttp()
        _, headers = run_in_background(get(url, private=private, start=0, end=1)).result()
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdecimal():
            raise OSError("its server does not say how large it is")
        return int(size)
    existing = stat_object(url)
    if existing is None or existing.signature is None or existing.signature[0] is None:
        raise FileNotFoundError("there is no such object")
    return existing.signature[0]
