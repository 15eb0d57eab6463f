"""What an opened model is, as plain data that can be stored and sent to another machine."""

from dataclasses import dataclass

from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and how it runs."""

    name: str  # ``builtin``, a hub id or the path of a folder
    revision: str | None  # the commit of a hub model, the sha256 of the built-in one, None for a folder
    preprocessing: Preprocessing | OpaqueProcessor
    device: str  # as torch names it: ``cpu``, ``cuda:1``, ``mps``; several are separated by commas
    runtime: str  # ``torch`` or ``openvino``
    precision: str
    batch_size: int  # images in one forward pass, unless the user asks for another number
