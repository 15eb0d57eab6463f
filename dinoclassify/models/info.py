"""What an opened model is, as data that can be written down and sent to another machine."""

from dataclasses import dataclass

from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and how it runs.

    Attributes:
        name: ``builtin``, a hub id or the path of a folder.
        revision: the commit of a hub model, the sha256 of the built-in one, None for a folder.
        preprocessing: what is done to an image before the model sees it.
        device: as torch names it: ``cpu``, ``cuda:1``, ``mps``; several are separated by commas.
        runtime: ``torch`` or ``openvino``.
        precision: what the model computes in.
        batch_size: images in one forward pass, unless the user asks for another number.
    """

    name: str
    revision: str | None
    preprocessing: Preprocessing | OpaqueProcessor
    device: str
    runtime: str
    precision: str
    batch_size: int
