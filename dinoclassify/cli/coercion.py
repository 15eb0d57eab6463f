"""The text of an option -> its value, as Typer converts it, but without pydantic: its import takes longer than help."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args, get_origin

import typer

from dinoclassify.messages import nearest

_YES, _NO = {"1", "on", "t", "true", "y", "yes"}, {"0", "", "off", "f", "false", "n", "no"}


class _Values:
    """What Typer asks of the type of an option or argument."""

    def __init__(self, convert: Callable[[Any], object]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> object:  # noqa: ARG002 - Typer calls it so
        """Convert a value, or each of them."""
        has_many = param.multiple or param.nargs == -1
        if value is None:
            return () if has_many else None
        return [self._convert(each) for each in value] if has_many else self._convert(value)


def without_pydantic(parameters: list[Any]) -> list[Any]:  # Typer's own types are private
    """Let the options and arguments convert their values themselves, where their type is one that options here have."""
    for parameter in parameters:
        if (convert := _converter(parameter)) is not None:
            parameter.get_runtime_param = partial(_Values, convert)
    return parameters


def _converter(parameter: Any) -> Callable[[Any], object] | None:
    """Return a function that raises BadParameter with a message that follows the option; None for other types."""
    kind = getattr(parameter, "type_descriptor", None)
    if kind is None:
        return None
    if kind.parameter_info.parser is not None:
        return partial(_parsed, kind.parameter_info.parser)
    if get_origin(kind.annotation) is Literal:
        return partial(_chosen, get_args(kind.annotation))
    converters: dict[object, Callable[[Any], object]] = {bool: _yes_or_no, str: str, list[str]: str}
    return converters.get(kind.annotation)


def _parsed(parser: Callable[[Any], object], value: Any) -> object:
    try:
        return parser(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value}: {error}") from error


def _chosen(choices: tuple[str, ...], value: str) -> str:
    if value not in choices:
        raise typer.BadParameter(f"{value}{nearest(value, choices)}: choose {', '.join(choices)}")
    return value


def _yes_or_no(value: bool | str) -> bool:
    text = str(value).strip().lower()
    if text not in _YES | _NO:
        raise typer.BadParameter(f"{value}: write 1 or 0")
    return text in _YES
