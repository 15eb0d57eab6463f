"""Reads of one URL."""

import asyncio

from dinoclassify.storage.remote.content import read as read_object
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source


def read(url: str, content: ByteRange | None = None, *, private: bool = True) -> Source:
    return asyncio.run(read_object(Source(url, content), private=private))


def failure(url: str, content: ByteRange | None = None, *, private: bool = True) -> Failure:
    result = read(url, content, private=private)
    assert isinstance(result.content, Failure)
    return result.content
