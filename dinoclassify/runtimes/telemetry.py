"""OpenVINO and its tools report over the network that they are imported and used. Here they do not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.system.environment import NO_HOME

_SILENCED_BY = {"CI": "true", "NNCF_CI": "true"}  # variables that tell them that nobody is there to be counted


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Have what is imported and called in the block report nothing."""
    homeless = {"HOME": NO_HOME} if os.path.expanduser("~") == "~" else {}  # they look there for consent, or raise
    before = {name: os.environ.get(name) for name in (*_SILENCED_BY, *homeless)}
    os.environ.update(_SILENCED_BY | homeless)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
