"""Which images are not on this machine, so that they are read ahead; see `storage.fetcher`, which is slow to import."""

from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.source import ByteRange, Source

IN_FLIGHT = 32  # reads at a time in each process


def is_elsewhere(source: Source) -> bool:
    """Whether the bytes of an image are remote."""
    place = source.content.archive if isinstance(source.content, ByteRange) else source.path
    return (source.content is None or isinstance(source.content, ByteRange)) and is_url(place)
