"""A path is taken apart here, once: what kind of input it names, and in which container the input is."""

import os
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from dinoclassify.discovery.containers.suffixes import is_archive, is_table
from dinoclassify.storage.remote.url import is_url, is_web
from dinoclassify.types.source import MEMBER

STDIN = "-"


class Kind(Enum):
    """What a path names. `parse` returns the first five; the others come from `locate`."""

    FILE = auto()
    ARCHIVE = auto()
    TABLE = auto()
    MEMBER = auto()  # an image in an archive: album.zip!summer/beach.jpg
    ROW = auto()  # an image in a table: train.parquet!3
    STDIN = auto()  # a list of paths on stdin
    STORE = auto()  # an object, a prefix or a glob in an object store
    FOLDER = auto()
    GLOB = auto()  # a pattern for paths on this machine


@dataclass(frozen=True, slots=True)
class Location:
    """A path or URL, taken apart.

    ``container`` is the archive or table of an image, and ``name`` its name or row number there; else both are empty.
    """

    path: str
    kind: Kind
    container: str = ""
    name: str = ""

    @classmethod
    def parse(cls, path: str) -> "Location":
        """The location that the text of a path names; nothing is looked up."""
        container, name = _split_member(path)
        if is_archive(path):
            return cls(path, Kind.ARCHIVE, container, name)
        if container:
            return cls(path, Kind.MEMBER, container, name)
        if is_table(path):
            return cls(path, Kind.TABLE)
        table, _, row = path.rpartition(MEMBER)
        return cls(path, Kind.ROW, table, row) if is_table(table) else cls(path, Kind.FILE)

    @property
    def is_in_archive(self) -> bool:
        """Whether the container is an archive."""
        return bool(self.container) and self.kind is not Kind.ROW


def locate(path: str) -> Location:
    """The location of one of PATHS. Folders, and files with the characters of a glob, are looked up on this machine."""
    if path == STDIN:
        return Location(path, Kind.STDIN)
    if is_web(path):
        return Location.parse(path)
    if is_url(path):
        return Location(path, Kind.STORE)
    if os.path.isdir(path):
        return Location(path, Kind.FOLDER)
    location = locate_image(path)
    if not is_glob(path) or os.path.lexists(path) or (location.is_in_archive and os.path.isfile(location.container)):
        return location
    return Location(path, Kind.GLOB)


def locate_image(path: str) -> Location:
    """The location of an image, archive or table. A file that exists is a file, even one called ``a.zip!b.jpg``."""
    location = Location.parse(path)
    if not location.container or is_url(path) or not os.path.lexists(path):
        return location
    return Location(path, Kind.ARCHIVE if is_archive(path) else Kind.TABLE if is_table(path) else Kind.FILE)


def is_local_file(path: str) -> bool:
    """Whether a path names a file of its own on this machine, which need not exist: not an image in a container."""
    return not is_url(path) and not locate_image(path).container


def container_of(path: str) -> str:
    """The archive or table of an image, by the text of its path; "" for an image in a file of its own."""
    return Location.parse(path).container if MEMBER in path else ""


def is_glob(path: str) -> bool:
    """Whether a path has wildcards."""
    return any(character in path for character in "*?[")


def absolute_path(path: str, folder: str) -> str:
    """The absolute path of an input: ``a/b.jpg``, ``./a/b.jpg`` and ``$PWD/a/b.jpg`` give the same.

    Relative paths start from ``folder``. A URL stays as it is, and so does the name of an image in an archive. Symbolic
    links are not resolved: two links to one file are two inputs.
    """
    if is_url(path):
        return path
    archive, name = _split_member(path)
    if archive:
        return f"{absolute_path(archive, folder)}{MEMBER}{name}"
    head, _, tail = path.rpartition("/")
    if tail in {"", ".", ".."}:
        return _absolute(path, folder)
    return f"{_absolute(head or ('/' if path.startswith('/') else '.'), folder).rstrip('/')}/{tail}"


def is_relative_file(path: str) -> bool:
    """Whether a path starts from the working folder: that of a file on this machine, or of an image in one."""
    return not is_url(path) and not path.startswith("/")


def _split_member(path: str) -> tuple[str, str]:
    """The archive and the name in it of a path such as ``album.zip!summer/beach.jpg``; "" and "" for others."""
    at = path.find(MEMBER)
    while at >= 0 and not is_archive(path[:at]):
        at = path.find(MEMBER, at + 1)
    name = path[at + 1 :]
    return (path[:at], name) if at >= 0 and name else ("", "")


@lru_cache(maxsize=4096)  # a walk yields the files of a folder one after the other
def _absolute(head: str, folder: str) -> str:
    parts: list[str] = []
    for part in os.path.join(folder, head).split("/"):
        if part == ".." and parts and not (parts[-1] == ".." or os.path.islink("/" + "/".join(parts))):
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)
