"""The layout of `--help`: examples as they are written, and options in the same panels on a terminal and in a pipe."""

import inspect
from typing import Any

from typer.core import TyperArgument, TyperOption

_VERBATIM = "\b"  # Typer keeps the line breaks of a paragraph that starts with it


def lay_out(text: str) -> str:
    """Return a docstring as Typer lays it out well: one line for each paragraph, and indented examples as they are."""
    return "\n\n".join(map(_lay_out_paragraph, inspect.cleandoc(text).split("\n\n")))


def _lay_out_paragraph(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if any(line.startswith(" ") for line in lines):
        return "\n".join([_VERBATIM, *lines])
    return " ".join(lines)


def write_panels(command: Any, context: Any, formatter: Any) -> None:  # Typer's own types are private
    """Write the arguments, and the options in their panels, as plain text."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            default = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            panels.setdefault(parameter.rich_help_panel or default, []).append(record)
    for title, records in panels.items():
        with formatter.section(title):
            formatter.write_dl(records)


def without_types(parameters: list[Any]) -> list[Any]:
    """Let help show PATHS and --hidden, and not ``PATHS <list[str]>`` and ``--hidden <bool>``."""
    for parameter in parameters:
        if isinstance(parameter, TyperArgument) or (isinstance(parameter, TyperOption) and parameter.is_flag):
            parameter.display_type_rich = _no_type  # type: ignore[assignment]  # the instance's own
    return parameters


def _no_type(*, ctx: Any) -> None:
    """Return no type."""
