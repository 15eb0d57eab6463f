"""Coroutines for callers without an event loop, and resources that live as long as a loop."""

import asyncio
import atexit
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

# The generator that closes a resource, and the resource once it is open.
_Resource = tuple[AsyncGenerator[Any, None], "asyncio.Future[Any]"]
_resources: dict[asyncio.AbstractEventLoop, dict[Hashable, _Resource]] = {}


async def keep_open(key: Hashable, opened: Callable[[], AsyncGenerator[T, None]]) -> T:
    """The resource that ``opened`` yields, opened once for the running event loop and closed when that shuts down."""
    loop = asyncio.get_running_loop()
    if loop not in _resources:
        for closed in [other for other in _resources if other.is_closed()]:
            del _resources[closed]
    resources = _resources.setdefault(loop, {})
    if key not in resources or _has_failed(resources[key][1]):
        generator = opened()  # the loop calls `aclose` on it in the end
        resources[key] = generator, asyncio.ensure_future(anext(generator))
    resource: T = await asyncio.shield(resources[key][1])  # others may be waiting for it too
    return resource


def run_in_background(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run a coroutine in the event loop of fsspec, in another thread; returns the future of its result."""
    from fsspec.asyn import get_loop

    _close_at_exit()
    return asyncio.run_coroutine_threadsafe(work, get_loop())


def _has_failed(opening: "asyncio.Future[Any]") -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


@functools.cache
def _close_at_exit() -> None:
    from fsspec import asyn

    def close() -> None:
        loop = asyn.loop[0]
        if loop in _resources:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(timeout=30)

    atexit.register(close)
