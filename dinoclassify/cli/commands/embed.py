"""`dinoclassify embed`."""

from functools import partial
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import option_groups, options
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.request import Request, check_run
from dinoclassify.cli.runs.to_file import write_rows
from dinoclassify.cli.terminal import set_up_log
from dinoclassify.writers.formats import FEATURE_FORMATS, choose_format
from dinoclassify.writers.target import Target

if TYPE_CHECKING:
    from dinoclassify.loaded_model import Job
    from dinoclassify.types.embedding import Embedding


@option_groups.expand_groups
def embed(
    context: typer.Context,
    *,
    inputs: option_groups.Inputs,
    model: option_groups.ModelOptions,
    inference: option_groups.InferenceOptions,
    normalize: options.Normalize = False,
    dtype: options.Dtype = "fp32",
    output: options.OutputFile = DASH,
    output_format: options.FeatureFormat = None,
    output_options: option_groups.OutputOptions,
    messages: option_groups.Messages,
) -> int:
    """Write the features of images, for search and clustering.

    Features are what the head of the classifier reads. For DINOv2 they are the class token and the mean of the
    patch tokens. Models without a head work too. Writes one row for each image, in order, as `predict` does.

    Examples:
      dinoclassify embed photos/ -o features.parquet
      dinoclassify embed photos/ -o features.npy --normalize --dtype fp16
    """
    set_up_log(messages)
    file = None if output in (DASH, "") else output
    target = Target(file, choose_format(file, output_format, FEATURE_FORMATS))
    request = Request(inputs, inference, target, output_options, messages, context.params)
    check_run(request)

    def open_job() -> "Job[Embedding]":
        """Open the model, and the format that fits its features."""
        from dinoclassify.encoder import Encoder
        from dinoclassify.loaded_model import Job
        from dinoclassify.types.embedding import DTYPES
        from dinoclassify.writers.formats.features import open_features

        encoder = Encoder(model.model, **model.arguments())
        return Job(
            model=encoder,
            infer=partial(encoder.embed_batches, normalized=normalize, dtype=dtype),
            row_format=open_features(target.file_format.name, encoder.width, DTYPES[dtype]),
            settings={"normalize": normalize, "dtype": dtype},
            outputs={"features": encoder.width},
        )

    return write_rows(open_job, request)
