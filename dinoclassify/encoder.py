"""The public face of features: a loaded model that turns images into numbers."""

from collections.abc import Iterable, Iterator
from typing import Unpack

import numpy as np
import numpy.typing as npt

from dinoclassify.decoding.batch import Batch
from dinoclassify.loaded_model import Inputs, LoadedModel
from dinoclassify.models.image_model import ImageModel
from dinoclassify.models.open import open_encoder
from dinoclassify.pipeline import embed
from dinoclassify.types.embedding import Embedding, FeatureType
from dinoclassify.types.run_options import RunArguments, RunOptions

_DTYPES: dict[FeatureType, npt.DTypeLike] = {"fp32": np.float32, "fp16": np.float16}


class Encoder(LoadedModel):
    """A classifier without its head, or a bare backbone, on a device: ready to embed images.

        for embedding in Encoder("small").embed(["photos/"]):
            print(embedding.path, embedding.status, embedding.features)

    The features are the input of the head of a classifier of this family: for DINOv2 the class token, followed by the
    mean of the patch tokens. For the arguments see `LoadedModel`; a backbone without a trained head will do.

    Attributes:
        base: the opened model, on which a head can be put.

    Raises:
        UsageError: an argument is wrong, or the precision is int8, which is checked by labels.
        ModelError: the model cannot be used, or its head is not one linear layer.
    """

    _has_labels = False

    def _open(self, model: str, *, revision: str | None, offline: bool) -> ImageModel:
        self.base = open_encoder(model, revision=revision, offline=offline)
        return self.base

    @property
    def width(self) -> int:
        """The number of features of an image."""
        return self._runtime.outputs

    def embed(
        self, inputs: Inputs, *, normalized: bool = False, dtype: FeatureType = "fp32", **run: Unpack[RunArguments]
    ) -> Iterator[Embedding]:
        """Embed images lazily: one embedding for every input, in order, failures included.

        Args:
            inputs: see `Classifier.predict`.
            normalized: scale the features of each image to length 1.
            dtype: the type of the features; it is not the precision that the model computes in.
            run: see `types.run_options.RunOptions`.

        Raises:
            TypeError: there is no argument of this name.
            UsageError: an argument is wrong.
        """
        options = RunOptions.from_arguments(**run)
        return self.embed_batches(self.decoded(inputs, options), normalized=normalized, dtype=dtype, options=options)

    def embed_batches(
        self,
        batches: Iterable[Batch],
        *,
        normalized: bool = False,
        dtype: FeatureType = "fp32",
        options: RunOptions | None = None,
    ) -> Iterator[Embedding]:
        """Embed decoded images, as `embed` does: one embedding for every input of the batches, in order."""
        return embed(batches, self._runtime, normalized=normalized, dtype=_DTYPES[dtype], options=options)
