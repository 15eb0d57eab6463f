"""Label folders of images with DINOv2, or any transformers image classifier.

from dinoclassify import Classifier

for prediction in Classifier("small").predict(["photos/"]):
    print(prediction.path, prediction.label, prediction.score)
"""

TYPE_CHECKING = False  # true for type checkers; importing `typing` would delay the command's signal handlers

if TYPE_CHECKING:
    from dinoclassify.classifier import Classifier
    from dinoclassify.encoder import Encoder
    from dinoclassify.errors import DinoclassifyError, ModelError, NoInputsError, OutputError, UsageError
    from dinoclassify.types.embedding import Embedding
    from dinoclassify.types.prediction import Failure, Label, Prediction
    from dinoclassify.version import __version__

_MODULES = {
    "classifier": ("Classifier",),
    "types.embedding": ("Embedding",),
    "encoder": ("Encoder",),
    "errors": ("DinoclassifyError", "ModelError", "NoInputsError", "OutputError", "UsageError"),
    "types.prediction": ("Failure", "Label", "Prediction"),
    "version": ("__version__",),
}

__all__ = [
    "Classifier",
    "DinoclassifyError",
    "Embedding",
    "Encoder",
    "Failure",
    "Label",
    "ModelError",
    "NoInputsError",
    "OutputError",
    "Prediction",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name at first use: `--help` does not wait for torch, and signals are handled early."""
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"dinoclassify.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
