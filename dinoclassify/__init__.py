"""Label folders of pictures with DINOv2, or any transformers image classifier.

from dinoclassify import Classifier

for prediction in Classifier("small").predict(["photos/"]):
    print(prediction.path, prediction.label, prediction.score)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dinoclassify.errors import DinoclassifyError, ModelError, NoInputsError, OutputError, UsageError
from dinoclassify.rows import Failure, Label, Prediction

if TYPE_CHECKING:
    from dinoclassify.classifier import Classifier
    from dinoclassify.embeddings import Embedding
    from dinoclassify.encoder import Encoder

_ROOMS = {"Classifier": "classifier", "Embedding": "embeddings", "Encoder": "encoder"}

__version__ = "0.1.0"
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
]


def __getattr__(name: str) -> object:
    """Import what brings torch or numpy with it at first use: `dinoclassify --help` must not wait for them."""
    if name in _ROOMS:
        return getattr(import_module(f"dinoclassify.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
