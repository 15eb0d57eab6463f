"""PATHS -> a lazy stream of `Source`: files, folders, archives, stores, globs and lists, filtered.

Only the names in the folders being walked are held in memory, so a million inputs take little of it, and a list on
stdin streams. The order is fixed: arguments as given, lists as written, the entries of a folder by name.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from dinoclassify.discovery.expand import expand, expand_container
from dinoclassify.discovery.filters import Filters, InputSelector, take_shard_and_limit
from dinoclassify.discovery.glob import expand_glob
from dinoclassify.discovery.location import STDIN, Kind, locate, locate_image
from dinoclassify.discovery.path_list import listed_paths, listed_source
from dinoclassify.discovery.store import expand_url
from dinoclassify.discovery.walk import walk
from dinoclassify.errors import UsageError
from dinoclassify.types.source import Source


def discover(
    paths: Iterable[str],
    filters: Filters | None = None,
    *,
    files_from: str | None = None,
    column: str | None = None,
    null: bool = False,
    private: bool = False,
) -> Iterator[Source]:
    """All inputs, lazily and in order.

    Args:
        paths: files, folders (walked recursively), archives, URLs, globs, or ``-`` for a list on stdin.
        filters: which of the inputs to take.
        files_from: a further list: a file with one path a line, ``-`` for stdin, or a ``.csv`` or ``.parquet`` table.
        column: the column of that table that holds the paths, by default ``path``. Without ``files_from``: the column
            of tables among ``paths`` that holds images.
        null: the lists are NUL-separated, as ``find -print0`` writes them.
        private: see `storage.remote.web`.

    Raises:
        UsageError: a list cannot be read, a column is missing, or a pattern is not a gitignore pattern. A path that
            does not exist is not an error here: it is an input, and gets its row.
    """
    filters = filters or Filters()
    selector = InputSelector(filters, column=column if files_from is None else None, private=private)
    images = find_images(paths, selector, files_from=files_from, column=column, null=null)
    return take_shard_and_limit(images, filters.shard, filters.limit)


def find_images(
    paths: Iterable[str], selector: InputSelector, *, files_from: str | None, column: str | None, null: bool
) -> Iterator[Source]:
    """The inputs of `discover` before shard and limit."""
    sources = find(paths, selector, files_from=files_from, column=column, null=null)
    return chain.from_iterable(expand_container(source, selector) for source in sources)


def find(
    paths: Iterable[str],
    selector: InputSelector,
    *,
    files_from: str | None = None,
    column: str | None = None,
    null: bool = False,
) -> Iterator[Source]:
    """The inputs of `find_images`, but a container that is read from front to back is still one source."""
    if null and files_from is None and STDIN not in (paths := list(paths)):
        raise UsageError("-0 goes with a list: - for stdin, or --files-from")
    listed: Iterator[str] = iter(())
    if files_from is not None:
        listed = listed_paths(files_from, column, null=null, private=selector.private)
    if files_from != STDIN:
        listed = chain(list(islice(listed, 1)), listed)  # to report now a list that cannot be read
    return chain(chain.from_iterable(_expand(path, selector, null=null) for path in paths), _listed(listed, selector))


def _expand(path: str, selector: InputSelector, *, null: bool) -> Iterator[Source]:
    """The images at one of PATHS."""
    location = locate(path)
    match location.kind:
        case Kind.STDIN:
            return _listed(listed_paths(STDIN, null=null), selector)
        case Kind.STORE:
            return expand_url(path, selector)
        case Kind.FOLDER if selector.column is not None:
            from dinoclassify.discovery.contained import expand_tables

            return expand_tables(path, selector)
        case Kind.FOLDER:
            return map(Source, walk(path, selector))
        case Kind.GLOB:
            return expand_glob(path, selector)
        case _:
            return expand(location, selector)


def _listed(paths: Iterable[str], selector: InputSelector) -> Iterator[Source]:
    """The images and archives that a list names, whether they exist or not."""
    for source in map(listed_source, paths):
        if source.content is None:
            yield from expand(locate_image(source.path), selector)
        elif selector.takes(source.path):
            yield source
        else:
            selector.leave_out()
