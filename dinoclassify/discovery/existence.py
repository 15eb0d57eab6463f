"""Whether the image of an earlier row is certainly gone."""

import os
import stat
from functools import lru_cache

from dinoclassify.discovery.contained import find_member
from dinoclassify.discovery.containers.archive import is_streamed
from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.location import locate_image
from dinoclassify.errors import UsageError
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.url import is_for_lists, is_url, is_web
from dinoclassify.types.prediction import Failure

_PREFIXES = 1024  # prefixes in stores to remember whether they have objects


def is_gone(path: str) -> bool:
    """Whether the image of a row is certainly gone; ``path`` is the row's, as `storage.paths.shown_path` writes it.

    A file or an object is gone if the nearest folder above it can be listed and is not empty: an empty folder may be a
    mount point without its disk. A member is gone if its archive is gone, or can be read and does not have it. In an
    archive that is read from front to back members are not looked up. The web has no listings, so nothing there is
    certainly gone. If a disk or server does not answer, or permission is missing, the image is not considered gone.
    """
    location = locate_image(file_shown_as(path))
    place = location.container or location.path
    if not is_for_lists(place):  # the row may have come from an untrusted list: do not connect
        return False
    try:
        if not _exists(place):
            return _store_lists_others(place) if is_url(place) else _folder_lists_others(place)
    except (OSError, UsageError):  # UsageError: the store is not known here
        return False
    if not location.is_in_archive or is_streamed(place):
        return False
    content = find_member(place, location.name, InputSelector(Filters())).content
    return isinstance(content, Failure) and content.code == "vanished"


def _exists(place: str) -> bool:
    """Whether a file or object of this name exists, which is not a folder; raises OSError if nothing answers."""
    if is_url(place):
        return is_web(place) or object_store.exists(place)
    try:
        return not stat.S_ISDIR(os.lstat(place).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _folder_lists_others(path: str) -> bool:
    """Whether the nearest folder above a missing path has other entries, or is a file now."""
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if stat.S_ISREG(os.lstat(folder or ".").st_mode):
        return True
    with os.scandir(folder or ".") as entries:
        return any(not entry.name.startswith(".") for entry in entries)


def _store_lists_others(url: str) -> bool:
    """Whether any prefix above a missing object, up to the bucket, has objects."""
    scheme, _, rest = url.partition("://")
    parts = rest.split("/")
    return any(_has_objects(f"{scheme}://{'/'.join(parts[:end])}/") for end in range(len(parts) - 1, 0, -1))


@lru_cache(_PREFIXES)
def _has_objects(prefix: str) -> bool:
    try:
        return next(object_store.objects(prefix), None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
