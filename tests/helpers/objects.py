"""Reads and writes of objects."""

import asyncio
import tempfile
from collections.abc import Iterable

from dinoclassify.storage.remote import filesystem
from dinoclassify.storage.remote.content import read as read_object
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source


def write(url: str, content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        filesystem.upload(file.name, url)


def read(*sources: Source) -> list[Source]:
    async def gather() -> list[Source]:
        return await asyncio.gather(*map(read_object, sources))

    return asyncio.run(gather())


def failure(source: Source) -> Failure:
    [result] = read(source)
    assert isinstance(result.content, Failure)
    return result.content


def paths(found: Iterable[Source]) -> list[str]:
    return [source.path for source in found]
