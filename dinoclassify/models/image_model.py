"""What a model is to a runtime: weights to load, pixels to give it, and what its logits mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing

if TYPE_CHECKING:  # torch takes a second to import, and a converted model runs without it
    from torch import nn

Activation = Literal["none", "softmax", "sigmoid"]  # over the outputs of an image


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """A model that turns images into rows of numbers; for its name and revision see `models.info.ModelInfo`.

    ``load`` reads the weights: a module in float32, in eval mode, on the CPU, from ``pixel_values`` (B x 3 x H x W) to
    ``logits`` (B x outputs). ``digest`` returns a digest of everything that ``load`` reads.
    """

    name: str
    revision: str | None
    preprocessing: Preprocessing | OpaqueProcessor
    load: "Callable[[], nn.Module]"
    digest: Callable[[], str]

    @property
    def activation(self) -> Activation:
        """What makes the reported outputs of the logits."""
        return "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoder(ImageModel):
    """A model whose outputs are features: the input of a classifier's linear head.

    ``load_with_head`` loads the classifier, whose head may be untrained, and returns it with the name of the head.
    ``folder`` is the folder of the checkpoint; None for the built-in model.
    """

    load_with_head: "Callable[[], tuple[nn.Module, str]]"
    folder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClassifier(ImageModel):
    """A model that gives a probability for each class, and the ``labels`` of the classes by index.

    ``multi_label``: the classes do not exclude each other, and each has a probability of its own.
    """

    labels: tuple[str, ...]
    multi_label: bool

    @property
    def activation(self) -> Activation:
        """What makes probabilities of the logits."""
        return "sigmoid" if self.multi_label else "softmax"
