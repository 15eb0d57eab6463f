"""A command whose options can be set by environment variables, and what wrong usage of it prints."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from dinoclassify.cli.terminal import say
from dinoclassify.errors import ModelError, UsageError, nearest

_PREFIX = "DINOCLASSIFY_"
_ONE_DASH = re.compile(r"-([A-Za-z])(=|[a-z-]{2})")  # -model, which reads as -m odel; -o=FILE, which reads as -o =FILE


class Command(TyperCommand):
    """Each option of a command has a variable: DINOCLASSIFY_PREDICT_TOP_K is --top-k of predict."""

    def __init__(self, name: str, **settings: Any) -> None:  # as Typer calls it
        super().__init__(name, **settings)
        self._prefix = f"{_PREFIX}{name.upper()}_"
        self.options = {
            _long(option): option
            for option in self.params
            if isinstance(option, TyperOption) and _long(option) != "--help"
        }
        for long, option in self.options.items():
            option.envvar = self._prefix + long[2:].replace("-", "_").upper()
        long, option = next(iter(self.options.items()))
        self.epilog = f"Each option can also be set by an environment variable: {option.envvar} sets {long}."

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse the command line, and warn of variables that set nothing."""
        self._check_dashes(args)
        try:
            rest = super().parse_args(context, args)
        except typer.TyperException as error:
            if getattr(error, "ctx", None) is None:  # the parser does not tell it of every error
                error.ctx = context  # type: ignore[attr-defined]  # usage errors have one
            self._warn_of_variables()
            raise
        if not context.params.get("quiet"):
            self._warn_of_variables()
        return rest

    def invoke(self, context: Any) -> Any:
        """Run the command; an error that is about the value of a variable names the variable."""
        try:
            return super().invoke(context)
        except (ModelError, UsageError) as error:
            if note := _variables_in(str(error), context):
                raise type(error)(f"{error}{note}") from error
            raise

    def _check_dashes(self, args: Sequence[str]) -> None:
        for arg in args[: args.index("--")] if "--" in args else args:
            found = _ONE_DASH.match(arg)
            if found and found[2] == "=" and any(f"-{found[1]}" in option.opts for option in self.options.values()):
                raise UsageError(f"{arg}: a short option takes its value without =: -{found[1]} {arg[3:]}")
            if found and f"-{arg.partition('=')[0]}" in self.options:
                raise UsageError(f"{arg}: write a long option with two dashes: -{arg}")

    def _warn_of_variables(self) -> None:
        """Name the variables that set nothing: misspelt ones, and those of before, which had no command in them."""
        known = {str(option.envvar) for option in self.options.values()}
        useless = []
        for variable in sorted(os.environ.keys() - known):
            new = self._prefix + variable.removeprefix(_PREFIX)
            if variable.startswith(self._prefix):
                useless.append(variable + nearest(variable, known))
            elif variable.startswith(_PREFIX) and new in known:
                useless.append(f"{variable} (use {new})")
        if useless:
            say(f"set in the environment, without effect: {', '.join(useless)}")


class Group(TyperGroup):
    """The commands; what stands in place of one is told apart."""

    def resolve_command(self, context: Any, args: list[str]) -> Any:  # Typer's own types are private
        """The command that is meant.

        Raises:
            UsageError: there is none of this name.
        """
        name = args[0]
        if name in self.commands:
            return super().resolve_command(context, args)
        if os.path.lexists(name) or "/" in name or "*" in name:
            raise UsageError(f"{name} is not a command: to label it: dinoclassify predict {name}")
        if name in ("help", "version"):
            raise UsageError(f"{name} is not a command: dinoclassify --{name}")
        raise UsageError(f"there is no command {name}{nearest(name, self.commands)}: choose {', '.join(self.commands)}")


def explain(error: typer.TyperException) -> str:
    """What is wrong with a command line: the thing, the reason, and where help is."""
    context: Any = getattr(error, "ctx", None)  # Typer's own, a private type
    command = context.command_path if context is not None else "dinoclassify"
    message = error.format_message().rstrip(".")
    if isinstance(error, typer.BadParameter) and error.param is not None:
        message = _explain_value(error, error.param, command)
    elif command == "dinoclassify" and (option := getattr(error, "option_name", None)):
        message = f"{option}: options follow the command, as in dinoclassify predict photos {option}"
    return f"{message}. See: {command} --help"


def _explain_value(error: typer.BadParameter, option: Any, command: str) -> str:
    name = _long(option) if option.param_type_name == "option" else option.display_name_raw
    if type(error) is not typer.BadParameter:
        return f"{command.removeprefix('dinoclassify ')} needs {name} {option.metavar or ''}".rstrip()
    variable = _variable_of(option, error.ctx)
    thing = f"{name} (set by {variable})" if variable else name
    problems: list[Any] = getattr(error.__cause__, "errors", list)()  # of pydantic, by which Typer checks values
    return f"{thing} {_reason(problems[0])}" if problems else f"{thing}: {error.message.rstrip('.')}"


def _reason(problem: Mapping[str, Any]) -> str:
    value, limits, message = str(problem["input"]), problem.get("ctx", {}), str(problem["msg"])
    match problem["type"]:
        case "greater_than_equal":
            return f"{value}: must be at least {limits['ge']}"
        case "less_than_equal":
            return f"{value}: must be at most {limits['le']:,}"
        case "int_parsing":
            return f"{value}: must be a whole number, in digits only"
        case "float_parsing":
            return f"{value}: must be a number, as 0.5 is"
        case "bool_parsing":
            return f"{value}: must be 1 or 0"
    if " is not one of " in message:
        choices = re.findall(r"'([^']*)'", message.rpartition(" is not one of ")[2])
        return f"{value}{nearest(value, choices)}: choose {', '.join(choices)}"
    return f"{value}: {message.removeprefix('Value error, ').rstrip('.')}"


def _variables_in(message: str, context: Any) -> str:
    """The variables, in brackets, whose options or values a message is about."""
    words = re.split(r"[\s:;,]+", message)
    names = {_variable_of(option, context): _long(option) for option in context.command.params}
    found = [name for name, long in names.items() if name and (long in words or _is_word(os.environ[name], words))]
    return f" ({' and '.join(f'{name}={os.environ[name]}' for name in found)} in the environment)" if found else ""


def _is_word(value: str, words: Collection[str]) -> bool:
    """Whether a value is among the words of a message; a number may be there by chance."""
    return value in words and not value.isdecimal()


def _variable_of(option: Any, context: Any) -> str | None:
    """The variable that has set an option, if one has."""
    source = context.get_parameter_source(option.name) if context is not None else None
    return str(option.envvar) if source is not None and source.name == "ENVIRONMENT" else None


def _long(option: Any) -> str:
    names: list[str] = option.opts
    return next((name for name in names if name.startswith("--")), names[0])
