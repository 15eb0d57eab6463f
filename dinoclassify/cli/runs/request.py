"""The command line of a run, and the checks before the work begins."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dinoclassify.cli.option_groups import InferenceOptions, Inputs, Messages, OutputOptions
from dinoclassify.cli.runs.inputs import check_inputs, names_of
from dinoclassify.errors import UsageError
from dinoclassify.writers.target import (
    Target,
    check_earlier_run,
    check_errors_to,
    check_not_image_table,
    check_target,
    exclusive,
)


@dataclass(frozen=True, slots=True)
class Request:
    """The command line of a run, without the model and its options."""

    inputs: Inputs
    inference: InferenceOptions
    target: Target
    output_options: OutputOptions
    messages: Messages
    parameters: Mapping[str, object]  # all options, for the metadata
    tables: Sequence[str] = ()  # files that the run reads besides the inputs

    def exclusive_output(self) -> AbstractContextManager[None]:
        """Keep other runs from writing the output, see `writers.target.exclusive`."""
        options = self.output_options
        return exclusive(self.target, wait=options.wait, resume=options.resume, fresh=options.fresh)


def check_run(request: Request) -> None:
    """Check everything that can be checked before the work begins.

    Raises:
        UsageError: options contradict each other, or the output may not be written there.
        OutputError: the output cannot be written.
        NoInputsError: an input is missing.
    """
    inputs, target, output_options = request.inputs, request.target, request.output_options
    named = [*names_of(inputs), *request.tables]
    watches = bool(request.parameters.get("watch"))
    _check_output_options(output_options)
    check_target(target, named)
    if target.file is not None and inputs.column is not None and inputs.files_from is None:
        check_not_image_table(target.file)
    if output_options.errors_to is not None:
        check_errors_to(output_options.errors_to, target, named)
    if output_options.resume and not target.is_resumable:
        raise UsageError("--resume goes with a file: name one with --output")
    check_earlier_run(target, resume=output_options.resume or watches)
    if not watches:  # a watch waits for inputs
        check_inputs(inputs)


def _check_output_options(output_options: OutputOptions) -> None:
    if (output_options.retry_failed or output_options.prune) and not output_options.resume:
        raise UsageError("--retry-failed and --prune go with --resume")
    if output_options.max_prune is not None and not output_options.prune:
        raise UsageError("--max-prune goes with --prune")
    if output_options.fresh and output_options.resume:
        raise UsageError("--fresh discards what --resume goes on with: leave one out")
    if output_options.strict and output_options.max_failures is not None:
        raise UsageError("--strict is --max-failures 0: leave one out")
