"""What an opened model is, as plain data that can be stored and sent to another machine."""

from dataclasses import dataclass

from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and how it runs.

    Attributes:
        name: ``builtin``, a hub id or the path of a folder.
        revision: the commit of a hub model, the sha256 of the built-in one, None for a folder.
        preprocessing: what an image goes through before the model sees it.
        device: as torch names it: ``cpu``, ``cuda:1``, ``mps``; several are separated by commas.
        runtime: ``torch`` or ``openvino``.
        precision: the precision that the model computes in.
        batch_size: images in one forward pass, unless the user asks for another number.
    """

    name: str
    revision: str | None
    preprocessing: Preprocessing | OpaqueProcessor
    device: str
    runtime: str
    precision: str
    batch_size: int
