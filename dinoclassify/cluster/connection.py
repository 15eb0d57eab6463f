"""The connection to a Ray cluster, existing or started on this machine for one run. Output of Ray is logged."""

import io
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data  # here, because it sets up its log, which `connected` then silences
except ImportError:
    raise UsageError("--engine ray needs: pip install 'dinoclassify[ray]'") from None

log = logging.getLogger(__name__)

_CHECK = "check the address and that the cluster runs (dinoclassify guide ray)"
_REACHABLE = 10.0  # seconds for the head of a cluster to answer


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Use the cluster at ``address``, or the one that runs this program as a job, or a new one on this machine.

    What Ray prints goes to the log, because rows may go to stdout.

    Raises:
        UsageError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_reachable(address)
    here: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        with _silent():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"--ray-address {address}: no cluster answers ({first_line(error)}): {_CHECK}") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(_ToLog()):
            yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise UsageError for an address at which Ray would try for minutes, or of its client, which cannot run this."""
    if "://" in address:
        raise UsageError(f"--ray-address {address}: run this on a node of the cluster, with auto or HOST:PORT")
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _REACHABLE).close()
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"--ray-address {address}: no cluster answers ({reason}): {_CHECK}") from error


class _ToLog(io.TextIOBase):
    """A stdout that logs what is printed."""

    def write(self, text: str) -> int:
        """Log the text."""
        if text.strip():
            log.info("ray: %s", text.strip())
        return len(text)


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what is written to stderr, also by C++."""
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)
