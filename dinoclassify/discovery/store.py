"""URLs in object stores -> the objects they name: one object, all below a prefix, or those that match a glob."""

import logging
import re
from collections.abc import Iterator
from itertools import chain

from dinoclassify.discovery.containers.suffixes import is_archive, is_table
from dinoclassify.discovery.expand import expand
from dinoclassify.discovery.filters import InputSelector
from dinoclassify.discovery.location import Location, is_glob
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.errors import failure
from dinoclassify.types.source import Source

log = logging.getLogger(__name__)


def expand_url(url: str, selector: InputSelector) -> Iterator[Source]:
    """The images at a URL, lazily. A prefix that cannot be listed is itself yielded, so that it gets a row."""
    try:
        yield from _expand_url(url, selector)
    except OSError as error:
        yield Source(url, failure(error))


def has_match(url: str, selector: InputSelector) -> bool:
    """Whether a URL names an object, or a prefix or glob with objects; raises OSError if the store cannot be asked."""
    return _is_object(url) or any(True for _ in _below(url)) or any(True for _ in _matches(url, selector))


def _expand_url(url: str, selector: InputSelector) -> Iterator[Source]:
    if _is_object(url):
        yield from expand(Location.parse(url), selector)
        return
    is_empty, prefix = True, _as_prefix(url)
    for source in _below(url):
        is_empty = False
        name = source.path[len(prefix) :]
        if selector.column is not None:
            yield from _expand_object(source, selector) if is_table(name) else ()
        elif selector.take_below(name, prefix):
            yield source
    if not is_empty:
        return
    for source in _matches(url, selector):
        is_empty = False
        yield from _expand_object(source, selector)
    if is_empty and is_glob(url):
        log.warning("nothing matches %s", url)
    elif is_empty and not url.endswith("/"):
        yield from expand(Location.parse(url), selector)  # the missing object gets its row


def _expand_object(source: Source, selector: InputSelector) -> Iterator[Source]:
    """The images in an object from a listing, whose signature need not be asked for again."""
    for image in expand(Location.parse(source.path), selector):
        yield source if image == Source(source.path) else image


def _is_object(url: str) -> bool:
    """Whether a URL names one object. The store is not asked about an archive."""
    return not url.endswith("/") and (is_archive(url) or object_store.stat_object(url) is not None)


def _below(url: str) -> Iterator[Source]:
    """The objects below a prefix, which may have the characters of a glob."""
    objects = object_store.objects(_as_prefix(url))
    try:
        first = next(objects, None)
    except (FileNotFoundError, NotADirectoryError):
        if not is_glob(url):
            raise
        return
    yield from chain([first] if first is not None else [], objects)


def _matches(url: str, selector: InputSelector) -> Iterator[Source]:
    """The objects that match a glob; none if the URL is not a glob."""
    if not is_glob(url):
        return
    from fsspec.utils import glob_translate

    prefix = _up_to_wildcard(url)
    matches = re.compile(glob_translate(url)).match
    for source in object_store.objects(prefix):
        visible = selector.hidden or "/." not in source.path[len(prefix) - 1 :]
        if visible and matches(source.path):
            yield source


def _as_prefix(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _up_to_wildcard(url: str) -> str:
    """The folder that has all objects a glob can match."""
    before = re.split(r"[*?[]", url, maxsplit=1)[0]
    return before[: before.rindex("/") + 1]
