"""Which options stand on the command line."""

from collections.abc import Collection

import typer

from dinoclassify.errors import UsageError


def reject_options(context: typer.Context, parameters: Collection[str], why: str) -> None:
    """Refuse options and arguments that would be of no effect, if they stand on the command line.

    Raises:
        UsageError: one does.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not None and source.name == "COMMANDLINE":
            name = parameter.opts[0]
            raise UsageError(f"{why}: leave out {name if name.startswith('-') else name.upper()}")
