"""An image model -> the folder of its OpenVINO network in the cache. Imports neither OpenVINO nor torch.

The network takes uint8 pixels, normalises them itself and takes batches of any size. It is converted once, in float32;
OpenVINO makes bf16 of it when it loads.
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import UnconvertibleError
from dinoclassify.storage.cache.folder import cache_root, kept_folder
from dinoclassify.storage.cache.manifest import Stamp
from dinoclassify.system.environment import temporary_folder
from dinoclassify.version import __version__

if TYPE_CHECKING:
    import openvino as ov

_REFUSAL = "refusal.txt"  # takes the place of a network, and says why there is none


def versions() -> Stamp:
    """What a network depends on beside its model."""
    packages = {package: version(package) for package in ("openvino", "torch", "transformers")}
    return {"dinoclassify": __version__, **packages}


def converted(model: ImageModel) -> Path:
    """The folder of the model's network, converted at first use. That a model cannot be converted is kept as well.

    Raises UnconvertibleError if OpenVINO does not support the model, or gives other outputs than PyTorch, or there is
    no room for the network, and ModelError if the model cannot be loaded.
    """
    if model.preprocessing.output_size is None:
        raise UnconvertibleError(f"OpenVINO runs models with one input size, and {model.name} takes many")
    conversions: list[ov.Model | str] = []  # at most one, though `make` may be called for several folders

    def make(folder: Path) -> None:
        """Write the network, or why there is none, into a folder."""
        from dinoclassify.runtimes.openvino.api import save_network
        from dinoclassify.runtimes.openvino.conversion import convert

        if not conversions:
            conversions.append(convert(model, once=folder.parent == cache_root()))
        network = conversions[0]
        if isinstance(network, str):
            (folder / _REFUSAL).write_text(network, encoding="utf-8")
        else:
            save_network(network, folder)

    try:
        folder = kept_folder(f"openvino-{model.digest()[:32]}", versions(), make)
    except OSError as error:
        if temporary_folder() is None:
            raise  # torch would need one too
        cure = "set XDG_CACHE_HOME, or TMPDIR, to a folder that can be written and has room"
        raise UnconvertibleError(
            f"no room for the OpenVINO form of {model.name} ({error.strerror or error}): {cure}"
        ) from error
    if (folder / _REFUSAL).exists():
        raise UnconvertibleError(refused(model, (folder / _REFUSAL).read_text(encoding="utf-8")))
    return folder


def refused(model: ImageModel, reason: str) -> str:
    """The message that OpenVINO cannot convert a model."""
    return f"OpenVINO cannot convert {model.name} ({reason})"
