"""Keep OpenVINO and its tools from reporting over the network that they are used."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.system.environment import NO_HOME

_SILENCED_BY = {"CI": "true", "NNCF_CI": "true"}  # these variables disable their telemetry


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Disable telemetry in the block, for imports and calls."""
    homeless = (
        {"HOME": NO_HOME} if os.path.expanduser("~") == "~" else {}
    )  # without a home they raise: they look there for consent
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
