"""The public face of features: a loaded model that turns images into numbers."""

from collections.abc import Iterable, Iterator
from typing import Unpack

import torch

from dinoclassify.decoding.batch import Batch
from dinoclassify.errors import UsageError
from dinoclassify.loaded_model import Inputs, LoadedModel
from dinoclassify.models.names import DEFAULT
from dinoclassify.models.open import open_encoder
from dinoclassify.pipeline import embed
from dinoclassify.runtimes import RequestedPrecision, RuntimeName, choose_devices
from dinoclassify.types.embedding import Embedding, FeatureType
from dinoclassify.types.run_options import RunArguments, RunOptions

_DTYPES: dict[FeatureType, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}


class Encoder(LoadedModel):
    """A classifier without its head, or a bare backbone, on a device: ready to embed images.

        for embedding in Encoder("small").embed(["photos/"]):
            print(embedding.path, embedding.status, embedding.features)

    The features are what the head of a classifier of this family takes: for DINOv2 the class token, and after it the
    mean of the patch tokens.

    Args:
        model: see `Classifier`; a backbone without a trained head is good too.
        revision: see `Classifier`.
        offline: see `Classifier`.
        device: see `Classifier`.
        precision: see `Classifier`; int8, which is checked by labels, is refused.
        runtime: see `Classifier`.
        compiled: see `Classifier`.

    Attributes:
        base: the model as it was opened: what a head can be put on.

    Raises:
        UsageError: an argument is wrong.
        ModelError: the model cannot be used, or its head is not one linear layer.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: str = "auto",
        precision: RequestedPrecision = "auto",
        runtime: RuntimeName = "auto",
        compiled: bool = False,
    ) -> None:
        if precision == "int8":
            raise UsageError("int8 is checked by labels, which features have not: choose bf16 or fp32")
        devices = choose_devices(runtime, device, precision, compiled=compiled)
        opened = open_encoder(model, revision=revision, offline=offline)
        super().__init__(opened, runtime, devices, precision, compiled=compiled)
        self.base = opened

    @property
    def width(self) -> int:
        """How many features an image has."""
        return self._runtime.outputs

    def embed(
        self, inputs: Inputs, *, normalized: bool = False, dtype: FeatureType = "fp32", **run: Unpack[RunArguments]
    ) -> Iterator[Embedding]:
        """Embed images lazily: one embedding for every input, in order, failures included.

        Args:
            inputs: files, folders (walked) and globs, one or many; PIL images and the bytes of encoded ones, whose
                path is ``<image 3>`` if they are ``inputs[3]``; or the sources that `discover` found.
            normalized: scale the features of each image to length 1.
            dtype: what the features are given in; it is not what the model computes in.
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
        """Embed images that are decoded, as `embed` does: one embedding for every input of the batches."""
        return embed(batches, self._runtime, normalized=normalized, dtype=_DTYPES[dtype], options=options)
