"""The file system that a URL or a path belongs to, as fsspec knows it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.url import is_s3, is_web, scheme_of

if TYPE_CHECKING:
    import asyncio

    from fsspec import AbstractFileSystem

# File systems that are never collected: in a forked process s3fs would wait a second for a loop that has stopped.
_alive: "dict[int, AbstractFileSystem]" = {}


def filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL or of a local path, and the path in it.

    Its options come from the store's own conventions: the environment, AWS's files, fsspec's configuration. Raises
    UsageError if the scheme is unknown or needs a package that is not installed.
    """
    fs = open_filesystem(url)
    return fs, path_in(fs, url)


def open_filesystem(url: str, loop: "asyncio.AbstractEventLoop | None" = None) -> "AbstractFileSystem":
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


def path_in(fs: "AbstractFileSystem", url: str) -> str:
    """The path of a URL in its file system."""
    path: str = fs._strip_protocol(url)
    return path


def require_aiohttp() -> None:
    """Raise UsageError if aiohttp, which reads http and https URLs, is not installed."""
    if find_spec("aiohttp") is None:
        raise UsageError("http:// and https:// need: pip install 'dinoclassify[cloud]'")
