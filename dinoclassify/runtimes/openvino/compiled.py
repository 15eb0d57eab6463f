"""Networks as OpenVINO compiled them, in the cache: they load in a third of the time that compiling takes.

OpenVINO's own cache (``CACHE_DIR``) is not used. It reads the whole network to find its file, and the file into memory
of its own; it also never removes a file.
"""

import io
import json
import mmap
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinoclassify.runtimes.openvino.network import versions
from dinoclassify.storage.cache.folder import cache_root, find_kept, keep_if_possible
from dinoclassify.storage.cache.manifest import Stamp, recorded_digest
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_identity
from dinoclassify.types.compute import Precision, RequestedPrecision

if TYPE_CHECKING:  # importing it takes a moment, in which workers decode
    import openvino as ov

_BLOB = "network.blob"
_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class CompiledFacts:
    """What a runtime says about a compiled network before it is loaded.

    ``hints`` are the settings that it is loaded with, and ``requests`` how many batches it computes at a time.
    """

    precision: Precision
    outputs: int
    requests: int
    hints: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A compiled network; its weights may lie in ``memory``, which must live as long."""

    model: "ov.CompiledModel"
    memory: mmap.mmap | None = None


def find_compiled(network: Path, precision: RequestedPrecision) -> Path | None:
    """The folder of the network in ``network``, compiled for this processor in this precision, or None."""
    try:
        return find_kept(_name(network), _stamp(network, precision))
    except (OSError, ValueError):  # the network is in a temporary folder, or has just gone
        return None


def read_facts(folder: Path) -> CompiledFacts | None:
    """The facts in a folder of `find_compiled`; None if they are damaged, or the folder has just gone."""
    try:
        return CompiledFacts(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def load_compiled(folder: Path, facts: CompiledFacts) -> Loaded:
    """Load the network from a folder of `find_compiled`; raises RuntimeError, OSError or ValueError if that fails."""
    import openvino as ov

    from dinoclassify.runtimes.openvino.api import core

    with open(folder / _BLOB, "rb") as file:
        # OpenVINO takes only memory that can be written; a private mapping keeps the file as it is.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensor = ov.Tensor(np.frombuffer(memory, np.uint8), shared_memory=True)
    model = core().import_model(tensor, "CPU", facts.hints)
    _give_back(memory)
    return Loaded(model, memory)


def keep_compiled(
    model: "ov.CompiledModel", facts: CompiledFacts, network: Path, precision: RequestedPrecision
) -> None:
    """Keep a compiled network in the cache, if the cache can be written and holds the network itself, too."""
    if network.parent != cache_root():
        return
    try:
        stamp = _stamp(network, precision)
    except (OSError, ValueError):  # the network has just gone
        return

    def make(folder: Path) -> None:
        with open(folder / _BLOB, "wb") as file:
            into = _Into(file)
            model.export_model(into)
        if into.error is not None:
            raise into.error
        (folder / _FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")

    keep_if_possible(_name(network), stamp, make)


class _Into(io.BytesIO):
    """Writes to a file. OpenVINO exports only to a BytesIO, which would hold gigabytes of a large model.

    OpenVINO ignores errors, such as that of a full disk: ``error`` is the first.
    """

    def __init__(self, file: io.BufferedWriter) -> None:
        super().__init__()
        self._file = file
        self.error: OSError | None = None

    def write(self, content: "bytes", /) -> int:  # type: ignore[override]  # OpenVINO writes nothing but bytes
        """Write to the file."""
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a place in the file: OpenVINO writes sizes into its header at the end."""
        return self._file.seek(offset, whence)


def _name(network: Path) -> str:
    return f"compiled-{network.name}"


def _stamp(network: Path, precision: RequestedPrecision) -> Stamp:
    machine = {"processor": cpu_identity(), "processors": str(available_cpus())}
    return {**versions(), **machine, "network": recorded_digest(network), "precision": precision}


def _give_back(memory: mmap.mmap) -> None:
    """Give back pages that are as in the file: OpenVINO has copied most of them, and can read the rest again."""
    if hasattr(mmap, "MADV_DONTNEED") and _is_unchanged(memory):
        memory.madvise(mmap.MADV_DONTNEED)


def _is_unchanged(memory: mmap.mmap) -> bool:
    """Whether no page of a private mapping differs from its file, as Linux tells; False where it does not tell."""
    start = np.frombuffer(memory, np.uint8).ctypes.data
    try:
        with open("/proc/self/smaps", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith(f"{start:08x}-"):
                    break
            return next((line.split()[1] == "0" for line in lines if line.startswith("Private_Dirty:")), False)
    except OSError:
        return False
