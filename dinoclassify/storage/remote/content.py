"""The bytes of objects, read by coroutines.

Imports asyncio and all that the web needs, which is slow: `storage.remote.object_store` imports it at the first URL.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

from dinoclassify.storage.budget import NoRoomError, Reserve, check_size
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import Fetch
from dinoclassify.storage.remote.errors import failure, os_errors
from dinoclassify.storage.remote.event_loop import keep_open, run_in_background
from dinoclassify.storage.remote.opening import open_filesystem, path_in
from dinoclassify.storage.remote.url import is_s3, is_web, scheme_of
from dinoclassify.storage.remote.web import get, head
from dinoclassify.storage.signature import entry_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Signature, Source

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


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


def web_signature(url: str, *, private: bool) -> Signature:
    """The signature of a file on the web; raises OSError."""
    return entry_signature(run_in_background(head(url, private=private)).result())


def web_content(url: str, *, private: bool) -> bytes:
    """The bytes of a file on the web; raises OSError."""
    return run_in_background(get(url, private=private)).result()[0]


def web_size(url: str, *, private: bool) -> int:
    """The size of a file on the web; raises OSError, with ESPIPE if its server sends no ranges."""
    _, headers = run_in_background(get(url, private=private, start=0, end=1)).result()
    size = headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdecimal():
        raise OSError("its server does not say how large it is")
    return int(size)


def fetcher(url: str, *, private: bool) -> Fetch:
    """A function that starts reading a range of an object."""

    async def fetch(start: int, end: int) -> bytes:
        with os_errors():
            content, _ = await _content(url, start, end, private=private)
        return content

    return lambda start, end: run_in_background(fetch(start, end))


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
    path = path_in(fs, url)
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
    fs = open_filesystem(url, asyncio.get_running_loop())
    session = await fs.set_session() if hasattr(fs, "set_session") else None  # fsspec's name
    try:
        yield fs
    finally:
        if session is not None:
            await session.close()
