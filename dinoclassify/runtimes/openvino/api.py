"""OpenVINO itself, imported without its telemetry, and what its objects are asked. Importing this takes a moment."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path

from dinoclassify.system.environment import NO_HOME

_FULL = 1 << 20  # bytes: a disk with less free space counts as full
_NETWORK = "network.xml"  # and network.bin
_SILENCED_BY = {"CI": "true", "NNCF_CI": "true"}  # these variables disable their telemetry


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Disable telemetry in the block, for imports and calls."""
    # They look for consent in the home, and raise if there is none.
    homeless = {"HOME": NO_HOME} if os.path.expanduser("~") == "~" else {}
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


with no_telemetry():
    import openvino as ov


@cache
def core() -> ov.Core:
    """OpenVINO's core: one for the process, as the objects it creates must not outlive it."""
    return ov.Core()


def read_network(folder: Path) -> ov.Model:
    """The network in a folder of the cache."""
    return core().read_model(folder / _NETWORK)


def save_network(network: ov.Model, folder: Path) -> None:
    """Write a network to a folder, with its weights in full precision; raises OSError."""
    try:
        ov.save_model(network, folder / _NETWORK, compress_to_fp16=False)
    except RuntimeError as error:
        is_full = shutil.disk_usage(folder).free < _FULL
        number, reason = (errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_full else (errno.EIO, reason_of(error))
        raise OSError(number, reason, str(folder)) from error


def reason_of(error: Exception) -> str:
    """The message of an OpenVINO error in one line, without the C++ and Python lines of its traceback."""
    message = str(error).partition("\n\nAt:\n")[0]
    lines = [line.strip().removeprefix("Caught exception: ") for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from ")) or type(error).__name__


def mostly_matrices(network: ov.Model) -> bool:
    """Whether more than half of the constants of a network are factors of matrix products."""
    constants = [node for node in network.get_ops() if node.get_type_name() == "Constant"]
    factors = {
        value.get_node().get_friendly_name()
        for node in network.get_ops()
        if node.get_type_name() == "MatMul"
        for value in node.input_values()
    }
    sizes = {node.get_friendly_name(): prod(node.get_output_shape(0)) for node in constants}
    return bool(2 * sum(size for name, size in sizes.items() if name in factors) > sum(sizes.values()))
