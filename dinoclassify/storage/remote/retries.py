"""How often, and after which pauses, a request is tried; and how many run at a time."""

import random
from collections.abc import Iterator

TRIES = 5  # of a request that may succeed later
BACKOFF = 0.5  # seconds before the second try, at most; then 1, 2, 4
CONNECTIONS = 64  # of a process at the same time, to one store or to all web servers


def backoff() -> Iterator[float]:
    """The seconds to wait after each failed try but the last."""
    for tried in range(TRIES - 1):
        yield BACKOFF * 2**tried * random.uniform(0.5, 1)  # noqa: S311 - so that clients do not all return at once
