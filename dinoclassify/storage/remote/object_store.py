"""Object stores, and whatever else fsspec knows by a URL: what is in them, reading and writing.

http and https URLs can be read here, too; how is for `storage.remote.web` to say.
"""

import asyncio
import errno
import functools
import io
import re
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from dinoclassify.errors import DinoclassifyError, OutputError, UsageError
from dinoclassify.messages import first_line
from dinoclassify.storage.atomic import replacing
from dinoclassify.storage.budget import NoRoomError
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import BLOCK, Fetch, seekable, streamed
from dinoclassify.storage.remote.web import Reserve, begin, check_size, get, head, is_web, kept, require_aiohttp
from dinoclassify.storage.signature import entry_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Signature, Source

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ASKED = 32  # objects that are asked for at the same time
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # a scheme of one letter is a drive of Windows
_S3 = frozenset({"s3", "s3a"})
_LISTED = _S3 | {"http", "https", "gs", "gcs", "az", "abfs", "abfss"}

# Once collected in a process that was forked since, s3fs would wait a second for a loop that does not run there.
_alive: "dict[int, AbstractFileSystem]" = {}


def is_url(path: str) -> bool:
    """Whether an input or output is named by a URL."""
    return _URL.match(path) is not None


def is_for_lists(path: str) -> bool:
    """Whether an untrusted list may name it: a local path, or a URL of the web or of an object store.

    Other schemes can lead into the private network, past the check of addresses that `storage.remote.web` makes.
    """
    return not is_url(path) or _scheme(path) in _LISTED


def filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL or of a local path, and the path in it.

    Its options are what the store's own conventions say: the environment, AWS's files, fsspec's configuration.

    Raises:
        UsageError: its scheme is unknown, or needs a package that is not installed.
    """
    fs = _open(url)
    return fs, _path(fs, url)


def stat_object(url: str) -> Source | None:
    """The object that is called so, with its signature; None if there is none. The web is not asked.

    Raises:
        OSError: the store does not say.
        UsageError: its scheme is unknown, or needs a package that is not installed.
    """
    if is_web(url):
        require_aiohttp()
        return Source(url)
    fs, path = filesystem(url)
    with os_errors():
        try:
            entry = s3.head(fs, url) if _scheme(url) in _S3 else fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    if entry is None or entry.get("type") == "directory" or url.endswith("/"):
        return None
    return Source(url, signature=entry_signature(entry))


def objects(prefix: str) -> Iterator[Source]:
    """All objects below a prefix, lazily and in the order of the store, each with its signature.

    Raises:
        OSError: the store does not say, or does not go on.
        UsageError: its scheme is unknown, or needs a package that is not installed.
    """
    fs, path = filesystem(prefix)
    below = prefix if prefix.endswith("/") else f"{prefix}/"
    entries = s3.listing(fs, below) if _scheme(prefix) in _S3 else _listing(fs, path, path, below)
    return _sources(entries)


def signatures(sources: Sequence[Source], *, private: bool = False) -> list[Signature]:
    """The signatures of objects, asked for side by side; (None, None) where there is no such object."""

    def ask(source: Source) -> Signature:
        if source.signature is not None:
            return source.signature
        with suppress(OSError):
            if is_web(source.path):
                return entry_signature(begin(head(source.path, private=private)).result())
            found = stat_object(source.path)
            if found is not None and found.signature is not None:
                return found.signature
        return None, None

    with ThreadPoolExecutor(_ASKED) as pool:
        return list(pool.map(ask, sources))


def exists(url: str) -> bool:
    """Whether there is an object that is called so.

    Raises:
        OSError: the store does not say.
    """
    return stat_object(url) is not None


async def read(source: Source, *, private: bool = False, reserve: Reserve = check_size) -> Source:
    """The source with its bytes, and with its signature; or with why there are none.

    Of a member of an archive they are the bytes that the archive has, packed or not. Of an object that has a
    signature, it stays: one that has changed since it was found will be found changed by a later run, too.

    Args:
        source: an object, or a `ByteRange` of one.
        private: reach web servers whose addresses are not public, too.
        reserve: see `storage.remote.web`.

    Raises:
        NoRoomError: ``reserve`` has raised it.
    """
    try:
        return await _read(source, private=private, reserve=reserve)
    except NoRoomError:
        raise
    except Exception as error:  # stores raise nearly anything
        return replace(source, content=failure(error))


def failure(error: Exception) -> Failure:
    """What a row says of an object with which this has gone wrong."""
    error = _as_os_error(error)
    message = first_line(OSError(error.strerror) if error.strerror else error)
    if isinstance(error, FileNotFoundError):
        return Failure("vanished", message)
    if isinstance(error, TimeoutError):
        return Failure("timeout", message)
    return Failure("too_large" if error.errno == errno.EFBIG else "unreadable", message)


def open_file(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a file in which one may seek. It is read in blocks.

    Raises:
        OSError: it cannot be read.
    """
    fetch, size = _fetcher(url, private=private)
    return seekable(fetch, size)


def open_stream(url: str, *, private: bool = False) -> BinaryIO:
    """An object as a file that is read from front to back: the next blocks are asked for ahead.

    Raises:
        OSError: it cannot be read.
    """
    try:
        fetch, size = _fetcher(url, private=private)
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return io.BytesIO(begin(get(url, private=private)).result()[0])
    return streamed(fetch, size)


def check_output(url: str) -> None:
    """Find out, as far as that can be known before there is anything to write, whether an object can be made.

    Raises:
        OutputError: it cannot.
        UsageError: nothing can be written there.
    """
    fs, _ = filesystem(url)
    if _scheme(url) in _S3:
        with _output_errors("write", url), suppress(PermissionError):  # who may write may not be one who may look
            s3.check_bucket(fs, url)


def upload(file: str, url: str) -> None:
    """Make an object of a local file: all of it, or nothing changes.

    Raises:
        OutputError: it cannot be done.
        UsageError: nothing can be written there.
    """
    fs, path = filesystem(url)
    with _output_errors("write", url):
        fs.put_file(file, path)


def download(url: str, file: str) -> bool:
    """Make a local file of an object. False if there is none.

    Raises:
        OutputError: it cannot be done.
        UsageError: nothing can be read there.
    """
    with _output_errors("read", url):
        try:
            stream = open_stream(url)
        except FileNotFoundError:
            return False
        with stream, replacing(file) as local:
            shutil.copyfileobj(stream, local, BLOCK)
    return True


def _open(url: str, loop: asyncio.AbstractEventLoop | None = None) -> "AbstractFileSystem":
    """The file system of a URL, for those who wait for it; or, if it can do that, for coroutines of a loop."""
    from fsspec import get_filesystem_class

    scheme = _scheme(url)
    if is_web(url):
        raise UsageError(f"{url}: {scheme}:// can only be read, one by one")
    try:
        kind = get_filesystem_class(scheme)
    except ImportError as error:
        cure = ": pip install 'dinoclassify[cloud]'" if scheme in _S3 else f" an fsspec plug-in: {first_line(error)}"
        raise UsageError(f"{url}: {scheme}:// needs{cure}") from None
    except ValueError:
        raise UsageError(f"{url}: {scheme}:// is not known; is its fsspec plug-in installed?") from None
    # In S3 what seems to be an option is part of a key; elsewhere a URL may have a host or an account.
    options = s3.options() if scheme in _S3 else kind._get_kwargs_from_urls(url)
    if kind.async_impl:
        options["use_listings_cache"] = False
        if loop is not None:
            options |= {"asynchronous": True, "loop": loop, "skip_instance_cache": True}
    try:
        fs = kind(**options)
    except Exception as error:  # each store has its own: for an option that is missing, a login that is refused
        raise UsageError(f"cannot open {url}: {first_line(error)}") from error
    if scheme in _S3:
        fs.retries = 2 if loop is None else 1  # of bodies that break off; `s3.get` has a way of its own
    if loop is None:
        _alive[id(fs)] = fs
    return fs


def _scheme(url: str) -> str:
    match = _URL.match(url)
    return match.group(1).lower() if match else "file"


def _path(fs: "AbstractFileSystem", url: str) -> str:
    path: str = fs._strip_protocol(url)
    return path


async def _read(source: Source, *, private: bool, reserve: Reserve) -> Source:
    if source.signature == (None, None):  # it could not be asked for
        source = replace(source, signature=None)
    span, known = source.content if isinstance(source.content, ByteRange) else None, source.signature
    if span is not None:
        reserve(span.length)
        content, _ = await _content(
            span.archive, span.offset, span.offset + span.length, private=private, reserve=reserve
        )
        if len(content) < span.length:
            return replace(source, content=Failure("truncated", "the archive ends before it does"))
        return replace(source, content=content)
    if known is not None:
        reserve(known[0])
    content, found = await _content(source.path, known=known, private=private, reserve=reserve)
    return replace(source, content=content, signature=known or found)


async def _content(
    url: str,
    start: int | None = None,
    end: int | None = None,
    *,
    private: bool,
    known: Signature | None = None,
    reserve: Reserve = check_size,
) -> tuple[bytes, Signature | None]:
    """The bytes of an object, or of a range of it; and for all of them its signature, as known or as found."""
    if is_web(url):
        content, headers = await get(url, private=private, start=start, end=end, reserve=reserve)
        return content, entry_signature({**headers, "Content-Length": len(content)})
    fs = await _kept_open(url)
    if _scheme(url) in _S3:
        content, answer = await s3.get(fs, url, start, end, reserve)
        return content, entry_signature(answer)
    path = _path(fs, url)
    if fs.async_impl:
        info, cat = fs._info, fs._cat_file
    else:
        info, cat = (functools.partial(asyncio.to_thread, function) for function in (fs.info, fs.cat_file))
    if start is None and known is None:
        known = entry_signature(await info(path))
        reserve(known[0])
    return await cat(path, start=start, end=end), known


async def _kept_open(url: str) -> "AbstractFileSystem":
    """The file system of a URL, opened once for the loop that runs."""
    scheme = _scheme(url)
    key = scheme if scheme in _S3 else "/".join(url.split("/", 3)[:3])  # with a host or an account
    fs: AbstractFileSystem = await kept(key, functools.partial(_opened, url))
    return fs


async def _opened(url: str) -> "AsyncGenerator[AbstractFileSystem, None]":
    fs = _open(url, asyncio.get_running_loop())
    session = await fs.set_session() if hasattr(fs, "set_session") else None  # which is how fsspec calls it
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
    """The URLs of all objects in a folder; what lies below ``root`` has the URL ``below`` before it."""
    for entry in sorted(fs.ls(folder, detail=True), key=lambda entry: str(entry["name"])):
        name = entry["name"]
        if name.rstrip("/") == folder.rstrip("/"):  # the marker of the folder itself
            continue
        if entry["type"] != "directory":
            yield below + name.removeprefix(root).removeprefix("/"), entry
        else:
            yield from _listing(fs, name, root, below)


def _as_os_error(error: Exception) -> OSError:
    """The errors of stores are of all kinds; a word in their names is what those of time have in common."""
    if any("Timeout" in kind.__name__ for kind in type(error).__mro__):
        return TimeoutError(first_line(error))
    return error if isinstance(error, OSError) else OSError(first_line(error))


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise what goes wrong with a store, each of which has errors of its own, as an OSError."""
    try:
        yield
    except DinoclassifyError:
        raise
    except Exception as error:
        raise _as_os_error(error) from error


@contextmanager
def _output_errors(verb: str, url: str) -> Iterator[None]:
    try:
        with os_errors():
            yield
    except OSError as error:
        raise OutputError(f"cannot {verb} {url}: {failure(error).message}") from error


def _fetcher(url: str, *, private: bool) -> tuple[Fetch, int]:
    """What asks for the bytes of an object from here to there; and its size."""

    async def fetch(start: int, end: int) -> bytes:
        with os_errors():
            content, _ = await _content(url, start, end, private=private)
        return content

    return lambda start, end: begin(fetch(start, end)), _size(url, private=private)


def _size(url: str, *, private: bool) -> int:
    if is_web(url):
        require_aiohttp()
        _, headers = begin(get(url, private=private, start=0, end=1)).result()
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdecimal():
            raise OSError("its server does not say how large it is")
        return int(size)
    found = stat_object(url)
    if found is None or found.signature is None or found.signature[0] is None:
        raise FileNotFoundError("there is no such object")
    return found.signature[0]
