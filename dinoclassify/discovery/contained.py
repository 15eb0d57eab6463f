"""An archive or a table -> the images in it, as a lazy stream of `Source`.

Imports the readers of all containers, which is slow: `discovery.expand` and others import it at the first container.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from dinoclassify.discovery.containers import archive, table
from dinoclassify.discovery.containers.base import Opener
from dinoclassify.discovery.filters import InputSelector
from dinoclassify.errors import UsageError
from dinoclassify.storage.reader import signature_of
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.source import MEMBER, SequentialContainer, Source


def images_in(source: Source, container: SequentialContainer, selector: InputSelector) -> Iterator[Source]:
    """The images in a source whose content is this ``container``."""
    if container.column is None:
        yield from _members(source, selector, streamed=True)
    else:
        path, signature = source.path, signature_of(source, private=selector.private)
        yield from table.images(path, container.column, _opener(path, selector), signature)


def expand_tables(folder: str, selector: InputSelector) -> Iterator[Source]:
    """The tables in a folder, each as a container to read later; raises UsageError if there are none."""
    paths = table.tables_in(folder)
    if not paths:
        raise UsageError(f"--column: there are no .parquet or .arrow tables in {folder}")
    for path in paths:
        if selector.takes(os.path.relpath(path, folder)):
            yield Source(path, SequentialContainer(selector.column))
        else:
            selector.leave_out()


def find_member(path: str, name: str, selector: InputSelector) -> Source:
    """The image called ``name`` in the archive ``path``."""
    return archive.member(path, name, _opener(path, selector), signature_of(Source(path), private=selector.private))


def expand_archive(path: str, selector: InputSelector) -> Iterator[Source]:
    """The images in an archive; one that is read from front to back is yielded whole."""
    if not selector.takes(f"{path}/"):
        selector.leave_out("archive")
    elif archive.is_streamed(path):
        yield Source(path, SequentialContainer())
    else:
        yield from _members(Source(path), selector, streamed=False)


def _members(source: Source, selector: InputSelector, *, streamed: bool) -> Iterator[Source]:
    """The images in an archive; for ``streamed`` see `archive.members`."""
    path, signature = source.path, signature_of(source, private=selector.private)
    wanted = partial(selector.take_below, root=f"{path}{MEMBER}")
    return archive.members(path, wanted, _opener(path, selector, streamed=streamed), signature, streamed=streamed)


def _opener(path: str, selector: InputSelector, *, streamed: bool = False) -> Opener:
    open_url = object_store.open_stream if streamed else object_store.open_file
    return partial(open_url, private=selector.private) if is_url(path) else _open


def _open(path: str) -> BinaryIO:
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block
        raise OSError(f"{path} is not a regular file")
    return open(path, "rb")
