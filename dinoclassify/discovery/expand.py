"""A location -> its images: one image, or those in an archive or a table, as a lazy stream of `Source`.

The first container imports `discovery.contained`.
"""

from collections.abc import Iterator

from dinoclassify.discovery.containers.suffixes import is_table
from dinoclassify.discovery.filters import InputSelector
from dinoclassify.discovery.location import Kind, Location
from dinoclassify.errors import UsageError
from dinoclassify.storage.remote.opening import require_aiohttp
from dinoclassify.storage.remote.proxies import proxy_of
from dinoclassify.storage.remote.url import is_web
from dinoclassify.types.source import SequentialContainer, Source


def expand(location: Location, selector: InputSelector) -> Iterator[Source]:
    """The images at a location other than a folder, a glob, a store or stdin.

    A container that is read from front to back is yielded whole.
    """
    path = location.path
    if selector.column is not None and not is_table(path):
        raise UsageError(f"--column goes with tables, .parquet or .arrow, and with --files-from, not with {path}")
    if location.kind is Kind.ARCHIVE and selector.column is None:
        from dinoclassify.discovery.contained import expand_archive

        yield from expand_archive(path, selector)
    elif not selector.takes(path):
        selector.leave_out()
    elif selector.column is not None:
        yield Source(path, SequentialContainer(selector.column))
    elif location.kind is Kind.MEMBER:
        from dinoclassify.discovery.contained import find_member

        yield find_member(location.container, location.name, selector)
    else:
        if is_web(path):
            require_aiohttp()
            if selector.private:
                proxy_of(path)  # to report an unusable proxy now, and once
        yield Source(path)


def expand_container(source: Source, selector: InputSelector) -> Iterator[Source]:
    """The images in a source whose content is a `SequentialContainer`; any other source itself."""
    if not isinstance(source.content, SequentialContainer):
        yield source
    else:
        from dinoclassify.discovery.contained import images_in

        yield from images_in(source, source.content, selector)
