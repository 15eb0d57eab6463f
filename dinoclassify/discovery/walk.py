"""A folder on this machine -> all images below it, in the order of their names."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from dinoclassify.discovery.filters import LINK, InputSelector, has_image_suffix

log = logging.getLogger(__package__)  # one logger for the whole search, which `--watch` filters


@dataclass(slots=True)
class _Level:
    """A folder on the way to where the walk is."""

    path: str
    below: str  # the path from the folder that the user named
    identity: tuple[int, int]  # device and inode
    names: Iterator[str]  # images and folders still to visit; folders end in a slash


def walk(folder: str, selector: InputSelector) -> Iterator[str]:
    """The images in ``folder``, by name. A folder that cannot be read is itself yielded, so that it gets a row."""
    levels: list[_Level] = []
    root = os.path.join(folder, "")

    def enter(path: str, below: str) -> bool:
        """Continue in this folder; False if it cannot be read."""
        try:
            status = os.stat(path)
            names = _names(path, below, selector, root)
        except OSError:
            return False
        selector.disks.setdefault(status.st_dev, path)
        identity = (status.st_dev, status.st_ino)
        if identity in (level.identity for level in levels):
            log.warning("%s links to a folder above itself and is not entered again", path)
        else:
            levels.append(_Level(path, below, identity, iter(names)))
        return True

    if not enter(folder, ""):
        yield folder
    while levels:
        level = levels[-1]
        name = next(level.names, None)
        if name is None:
            levels.pop()
            continue
        path, relative = os.path.join(level.path, name.removesuffix("/")), level.below + name
        if not selector.takes(relative):
            selector.leave_out("folder" if name.endswith("/") else "image")
        elif not (name.endswith("/") and enter(path, relative)):
            yield path


def _names(folder: str, below: str, selector: InputSelector, root: str) -> list[str]:
    """The images and subfolders of a folder, sorted. They are plain names: a million of them take little memory."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not selector.hidden and entry.name.startswith("."):
                continue
            if is_folder(entry, follow=selector.follow):
                names.append(f"{entry.name}/")
            elif entry.is_symlink() and is_folder(entry, follow=True):
                selector.pass_over(root, below + entry.name, kind=LINK)
            elif has_image_suffix(entry.name):
                names.append(entry.name)
            else:
                selector.pass_over(root, below + entry.name)
    names.sort(key=lambda name: name.removesuffix("/"))
    return names


def is_folder(entry: "os.DirEntry[str]", *, follow: bool) -> bool:
    """Whether an entry of a folder is a folder, or with ``follow`` a link to one."""
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself, or into a folder that cannot be read: decoding reports it
        return False
