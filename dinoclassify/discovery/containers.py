"""What is in an archive, a table of images or an object store -> a lazy stream of `Source`."""

import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain
from typing import BinaryIO

from dinoclassify.discovery import archives, image_tables
from dinoclassify.discovery.filters import Filters, InputSelector, is_glob
from dinoclassify.errors import UsageError
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.reader import signature_of
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.proxies import proxy_of
from dinoclassify.storage.remote.web import is_web, require_aiohttp
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MEMBER, SequentialContainer, Source

log = logging.getLogger(__name__)

_PREFIXES = 1024  # of stores, of which it is known whether they have objects


def expand_path(path: str, selector: InputSelector) -> Iterator[Source]:
    """What a name stands for that is not a folder's: an image, or all images in an archive or a table.

    It is tried whatever its suffix. One that is read from front to back is given as it is, see `expand_container`.
    """
    if selector.column is not None:
        if not image_tables.is_table(path):
            raise UsageError(f"--column goes with tables, .parquet or .arrow, and with --files-from, not with {path}")
        if selector.take(path):
            yield Source(path, SequentialContainer(selector.column))
    elif archives.is_archive(path):
        yield from _archive(path, selector)
    elif (key := archives.split_key(path)) is not None and not os.path.lexists(path):
        if selector.take(path):
            yield _member(*key, selector)
    elif selector.take(path):
        if is_web(path):
            require_aiohttp()
            if selector.private:
                proxy_of(path)  # to say now, and once, what is wrong with it
        yield Source(path)


def expand_container(source: Source, selector: InputSelector) -> Iterator[Source]:
    """What is in a source whose content is a `SequentialContainer`; itself if it is none."""
    if not isinstance(source.content, SequentialContainer):
        yield source
        return
    column, known = source.content.column, signature_of(source, private=selector.private)
    if column is not None:
        yield from image_tables.images(source.path, column, _opener(source.path, selector), known)
        return
    opener = partial(object_store.open_stream, private=selector.private) if object_store.is_url(source.path) else _open
    wanted = partial(selector.take_below, root=f"{source.path}{MEMBER}")
    yield from archives.members(source.path, wanted, opener, known, streamed=True)


def tables_of(folder: str, selector: InputSelector) -> Iterator[Source]:
    """The tables in a folder.

    Raises:
        UsageError: there are none.
    """
    found = image_tables.tables_in(folder)
    if not found:
        raise UsageError(f"--column: there are no .parquet or .arrow tables in {folder}")
    yield from (
        Source(path, SequentialContainer(selector.column))
        for path in found
        if selector.take(os.path.relpath(path, folder))
    )


def expand_url(url: str, selector: InputSelector) -> Iterator[Source]:
    """The objects that a URL stands for: the one of this name, all below this prefix, or those that match a glob.

    A prefix that cannot be listed is itself an input, and so gets a row.
    """
    try:
        yield from _objects(url, selector)
    except OSError as error:
        yield Source(url, object_store.failure(error))


def is_file_name(path: str) -> bool:
    """Whether a path names a file of its own on this machine, be it there or not."""
    return not object_store.is_url(path) and (container_of(path) is None or os.path.lexists(path))


def container_of(path: str) -> str | None:
    """The archive or table that has the image of this path in it; None of an image that is a file of its own."""
    if (key := archives.split_key(path)) is not None:
        return key[0]
    table = path.rpartition(MEMBER)[0]
    return table if image_tables.is_table(table) else None


def is_member(path: str) -> bool:
    """Whether a path names what may be in an archive that is there."""
    key = archives.split_key(path)
    return key is not None and os.path.isfile(key[0])


def is_in_store(url: str, selector: InputSelector) -> bool:
    """Whether a URL names an object, or a prefix or glob that has at least one.

    Raises:
        OSError: the store does not say.
        UsageError: its scheme is unknown, or needs a package that is not installed.
    """
    return _is_object(url) or any(True for _ in _below(url)) or any(True for _ in _matching(url, selector))


def is_gone(path: str) -> bool:
    """Whether it is certain that what a row's path, see `storage.paths.shown_path`, stands for is gone.

    A file or an object is gone if the nearest folder above it can be listed and has something in it: an empty one may
    be where a disk is not mounted. A member is gone if its archive can be read and does not have it, or is gone itself;
    where the archive is read from front to back, only the latter counts. The web has no listings: nothing there is
    certainly gone. No more is anything that a disk, a server or a missing right gives no answer for.
    """
    place, key = file_shown_as(path), None
    if not is_file_name(place):
        key = archives.split_key(place)
        place = container_of(place) or place
    if not object_store.is_for_lists(place):  # a row may have come from a list: nothing connects for it
        return False
    try:
        if not _exists(place):
            return _is_missed_in_store(place) if object_store.is_url(place) else _is_missed(place)
    except (OSError, UsageError):  # the latter of a store that is not known here
        return False
    if key is None or archives.is_streamed(place, remote=object_store.is_url(place)):
        return False
    content = _member(*key, InputSelector(Filters())).content
    return isinstance(content, Failure) and content.code == "vanished"


def _exists(place: str) -> bool:
    """Whether there is a file or object of this name; a folder is not one. Raises OSError: nobody can say."""
    if object_store.is_url(place):
        return is_web(place) or object_store.exists(place)
    try:
        return not stat.S_ISDIR(os.lstat(place).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_missed(path: str) -> bool:
    """Whether the nearest folder above a path that is not there lists other entries, or is a file now."""
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if stat.S_ISREG(os.lstat(folder or ".").st_mode):
        return True
    with os.scandir(folder or ".") as entries:
        return any(not entry.name.startswith(".") for entry in entries)


def _is_missed_in_store(url: str) -> bool:
    """The same of an object: prefixes without objects are not there, up to the bucket."""
    scheme, _, rest = url.partition("://")
    parts = rest.split("/")
    return any(_has_objects(f"{scheme}://{'/'.join(parts[:end])}/") for end in range(len(parts) - 1, 0, -1))


@lru_cache(_PREFIXES)
def _has_objects(prefix: str) -> bool:
    try:
        return next(object_store.objects(prefix), None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _objects(url: str, selector: InputSelector) -> Iterator[Source]:
    if _is_object(url):
        yield from expand_path(url, selector)
        return
    found, prefix = False, _as_prefix(url)
    for source in _below(url):
        found = True
        name = source.path[len(prefix) :]
        if selector.column is not None:
            yield from _object(source, selector) if image_tables.is_table(name) else ()
        elif selector.take_below(name, prefix):
            yield source
    if found:
        return
    for source in _matching(url, selector):
        found = True
        yield from _object(source, selector)
    if not found and is_glob(url):
        log.warning("nothing matches %s", url)
    elif not found and not url.endswith("/"):
        yield from expand_path(url, selector)  # it is not there, and gets its row


def _is_object(url: str) -> bool:
    """Whether a URL names one object; an archive is taken for one without a look."""
    return not url.endswith("/") and (archives.is_archive(url) or object_store.stat_object(url) is not None)


def _below(url: str) -> Iterator[Source]:
    """The objects below a prefix, whatever characters it has."""
    objects = object_store.objects(_as_prefix(url))
    try:
        first = next(objects, None)
    except (FileNotFoundError, NotADirectoryError):
        if not is_glob(url):
            raise
        return
    yield from chain([first] if first is not None else [], objects)


def _matching(url: str, selector: InputSelector) -> Iterator[Source]:
    """The objects that match a glob; none if it is none."""
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


def _object(source: Source, selector: InputSelector) -> Iterator[Source]:
    """What is in an object that was listed: as `expand_path`, but that it need not be asked for again."""
    for found in expand_path(source.path, selector):
        yield source if found == Source(source.path) else found


def _archive(path: str, selector: InputSelector) -> Iterator[Source]:
    if not selector.take(f"{path}/"):
        return
    if archives.is_streamed(path, remote=object_store.is_url(path)):
        yield Source(path, SequentialContainer())
        return
    wanted = partial(selector.take_below, root=f"{path}{MEMBER}")
    known = signature_of(Source(path), private=selector.private)
    yield from archives.members(path, wanted, _opener(path, selector), known, streamed=False)


def _member(archive: str, name: str, selector: InputSelector) -> Source:
    streamed = archives.is_streamed(archive, remote=object_store.is_url(archive))
    known = signature_of(Source(archive), private=selector.private)
    return archives.member(archive, name, _opener(archive, selector), known, streamed=streamed)


def _opener(path: str, selector: InputSelector) -> Callable[[str], BinaryIO]:
    return partial(object_store.open_file, private=selector.private) if object_store.is_url(path) else _open


def _open(path: str) -> BinaryIO:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise OSError(f"{path} is not a regular file")
    return open(path, "rb")


def _up_to_wildcard(url: str) -> str:
    """The folder in which everything lies that a glob can match."""
    before = re.split(r"[*?[]", url, maxsplit=1)[0]
    return before[: before.rindex("/") + 1]
