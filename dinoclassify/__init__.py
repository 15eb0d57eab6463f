"""Label folders of pictures with DINOv2, or any transformers image classifier.

from dinoclassify import Classifier

for prediction in Classifier("small").predict(["photos/"]):
    print(prediction.path, prediction.label, prediction.score)
"""

from typing import TYPE_CHECKING

from dinoclassify.errors import DinoclassifyError, ModelError, NoInputsError, OutputError, UsageError
from dinoclassify.rows import Failure, Label, Prediction

if TYPE_CHECKING:
    from dinoclassify.classifier import Classifier

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "DinoclassifyError",
    "Failure",
    "Label",
    "ModelError",
    "NoInputsError",
    "OutputError",
    "Prediction",
    "UsageError",
]


def __getattr__(name: str) -> object:
    """Import `Classifier`, and torch with it, at first use: `dinoclassify --help` must not wait for them."""
    if name == "Classifier":
        from dinoclassify.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
