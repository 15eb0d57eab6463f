"""OpenVINO and its tools report over the network that they are imported and used. Here they do not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SILENCED_BY = ("CI", "NNCF_CI")  # variables that tell them that nobody is there to be counted


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Have what is imported and called in the block report nothing."""
    before = {name: os.environ.get(name) for name in _SILENCED_BY}
    os.environ.update(dict.fromkeys(_SILENCED_BY, "true"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
