"""Start decoding processes by another method, in all tests: ``START_METHOD=spawn PYTHONPATH=tests/start_method``."""

import multiprocessing
import os
from multiprocessing.context import BaseContext

_get_context = multiprocessing.get_context


def get_context(method: str | None = None) -> BaseContext:
    """What `multiprocessing.get_context` gives, but for who asks for fork."""
    return _get_context(os.environ.get("START_METHOD", method) if method == "fork" else method)


multiprocessing.get_context = get_context  # type: ignore[assignment]  # one signature in place of its overloads
