"""Commands whose options environment variables can set, and the messages about wrong usage."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from dinoclassify import guide
from dinoclassify.cli.coercion import without_pydantic
from dinoclassify.cli.help import lay_out, without_types, write_panels
from dinoclassify.cli.terminal import say, writing_to_stdout
from dinoclassify.errors import ModelError, UsageError
from dinoclassify.messages import nearest
from dinoclassify.storage.missing import home_of

_PREFIX = "DINOCLASSIFY_"
_LOCAL = {"--errors-to", "--into", "--plots", "--status", "--to", "--undo"}  # not in a store
_ONE_DASH = re.compile(r"-([A-Za-z])(=|[a-z-]{2})")  # -model is read as -m odel, -o=FILE as -o =FILE


class Command(TyperCommand):
    """A command. Each option has an environment variable: DINOCLASSIFY_PREDICT_TOP_K sets --top-k of predict."""

    def __init__(self, name: str, **settings: Any) -> None:  # Typer calls it so
        super().__init__(name, **settings)
        self.help = lay_out(self.help or "")
        self._prefix = f"{_PREFIX}{name.upper()}_"
        self.options = {
            _long(option): option
            for option in self.params
            if isinstance(option, TyperOption) and _long(option) != "--help"
        }
        for long, option in self.options.items():
            option.envvar = self._prefix + long[2:].replace("-", "_").upper()
        long = "--model" if "--model" in self.options else next(iter(self.options))
        more = f"dinoclassify guide {guide.find_topic(name) or ''}".rstrip()
        self.epilog = f"Environment variables set options too: {self.options[long].envvar} for {long}. More: {more}"

    def get_params(self, context: Any) -> list[Any]:
        """Return the parameters, without types that say nothing."""
        return without_types(without_pydantic(super().get_params(context)))

    def get_help_option(self, context: Any) -> TyperOption | None:
        """Return `--help`, which stands with the last options."""
        option = super().get_help_option(context)
        if option is not None:
            option.rich_help_panel = "Run"
        return option

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write the options in their panels."""
        write_panels(self, context, formatter)

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse the command line, or print the help; warn of variables that have no effect."""
        try:
            with _with_variables(context), writing_to_stdout():  # only help is written here
                self._check_dashes(args)
                rest = super().parse_args(context, args)
                self._check_arguments(context)
                self._check_values(context)
        except (typer.TyperException, UsageError) as error:
            if isinstance(error, typer.TyperException) and getattr(error, "ctx", None) is None:
                error.ctx = context  # type: ignore[attr-defined]  # the parser does not set it on every error
            self._warn_of_variables(context)
            raise
        if not context.params.get("quiet"):
            self._warn_of_variables(context)
        return rest

    def invoke(self, context: Any) -> Any:
        """Run the command."""
        with _with_variables(context):
            return super().invoke(context)

    def _check_dashes(self, args: Sequence[str]) -> None:
        for arg in args[: args.index("--")] if "--" in args else args:
            found = _ONE_DASH.match(arg)
            if found and found[2] == "=" and any(f"-{found[1]}" in option.opts for option in self.options.values()):
                raise UsageError(f"{arg}: a short option takes its value without =: -{found[1]} {arg[3:]}")
            if found and f"-{arg.partition('=')[0]}" in self.options:
                raise UsageError(f"{arg}: write a long option with two dashes: -{arg}")

    def _check_arguments(self, context: Any) -> None:
        """Refuse an empty name: DIR was not set in ``predict "$DIR"``."""
        for argument in self.params:
            values = context.params.get(argument.name) if isinstance(argument, TyperArgument) else None
            if values == "" or (isinstance(values, list) and "" in values):
                raise UsageError(f"{argument.metavar} has an empty name: check the variable that should hold it")

    def _check_values(self, context: Any) -> None:
        """Refuse values that no one means: an option, because OUT was empty in ``-o $OUT --resume``; a quoted ``~``."""
        known = {name for option in self.options.values() for name in (*option.opts, *option.secondary_opts)}
        for long, option in self.options.items():
            values = context.params.get(option.name)
            for value in [values] if isinstance(values, str) else values if isinstance(values, list) else ():
                if value in known or (long == "--output" and value.startswith("--")):
                    raise UsageError(f"{long} lacks its value; for a file named {value} write ./{value}")
                if not value and context.get_parameter_source(option.name).name == "COMMANDLINE":
                    raise UsageError(f"{long} is empty: give it a value, or leave it out")
                if long in _LOCAL and "://" in value:
                    raise UsageError(f"{long} {value}: name a place on this machine, not an address")
                if long != "--model" and (home := home_of(value)) is not None:
                    raise UsageError(f"{long} {value}: the shell expands ~ only outside quotes; write {home}")

    def _warn_of_variables(self, context: Any) -> None:
        """Warn of variables without effect: misspelt ones, and those of old versions, without a command's name.

        Only the command whose variables are most similar names a variable.
        """
        ours = {str(option.envvar) for option in self.options.values()}
        if not any(name.upper().startswith(_PREFIX) for name in os.environ.keys() - ours):
            return  # most often; else all commands are loaded, for the names of their options
        commands = getattr(getattr(context.parent, "command", None), "commands", {self.name: self}).values()
        known = {str(option.envvar) for command in commands for option in command.options.values()}
        useless = []
        for variable in sorted(os.environ.keys() - known):
            name = variable.upper()
            new = self._prefix + name.removeprefix(_PREFIX)
            if not name.startswith(_PREFIX):
                continue
            if name in ours or new in ours:
                useless.append(f"{variable} (use {name if name in ours else new})")
            elif name.startswith(self._prefix) or ours & {*get_close_matches(name, known, n=1, cutoff=0.8)}:
                useless.append(variable + nearest(name, ours))
        if useless:
            say(f"these environment variables have no effect: {', '.join(useless)}")


def explain(error: typer.TyperException) -> str:
    """Return a message about a command line: the option, what is wrong with it, and where help is."""
    context: Any = getattr(error, "ctx", None)  # its type is private to Typer
    command = context.command_path if context is not None else "dinoclassify"
    message = error.format_message()
    if isinstance(error, typer.BadParameter) and error.param is not None:
        message = _explain_value(error, error.param, command)
    elif command == "dinoclassify" and (option := getattr(error, "option_name", None)):
        message = _explain_early(option, context)
    return with_help(message, context)


def _explain_early(option: str, context: Any) -> str:
    """Return a message about an option before the command."""
    commands = context.command.commands.values() if context is not None else ()
    later = {name for command in commands for each in command.params for name in (*each.opts, *each.secondary_opts)}
    if option not in later and (near := nearest(option, ("--version", "--help"))):
        return f"there is no option {option}{near}"
    return f"{option}: options follow the command, as in dinoclassify predict photos {option}"


def with_help(message: str, context: Any) -> str:
    """Return the message, and where help is, unless it names a page of the guide."""
    if "(dinoclassify guide " in message:
        return message
    return f"{message.rstrip('.')}. See: {context.command_path if context is not None else 'dinoclassify'} --help"


@contextmanager
def _with_variables(context: Any) -> Iterator[None]:
    """Add to an error of the block the variable that set an option, and where help is if it is about options."""
    try:
        yield
    except (ModelError, UsageError) as error:
        message = full = f"{error}{_variables_in(str(error), context)}"
        if isinstance(error, UsageError) and _is_about_options(str(error), context):
            full = with_help(message, context)
        if full == str(error):
            raise
        raise type(error)(full) from error


def _is_about_options(message: str, context: Any) -> bool:
    """Whether a message is about the use of options and arguments, and not about the content of a file.

    It is if it begins with what to name, or if the problem, before the first colon or semicolon, names an option; the
    cure behind it may name an option, too. The help does not say what to install.
    """
    parameters = [each for each in context.command.params if each.param_type_name == "option"]
    known = {name for option in parameters for name in (*option.opts, *option.secondary_opts)}
    problem = set(re.split(r"[\s;,=]+", re.split(r"[:;](?:\s|$)", message, maxsplit=1)[0]))
    is_about = message.startswith(("name ", "unknown model ")) or not known.isdisjoint(problem)
    return is_about and "pip install" not in message


def _explain_value(error: typer.BadParameter, option: Any, command: str) -> str:
    name = _long(option) if option.param_type_name == "option" else option.display_name_raw
    if type(error) is not typer.BadParameter:
        return f"{command.removeprefix('dinoclassify ')} needs {name} {option.metavar or ''}".rstrip()
    variable = _variable_of(option, error.ctx)
    thing = f"{name} (set by {variable})" if variable else name
    return f"{thing} {error.message.rstrip('.')}"


def _variables_in(message: str, context: Any) -> str:
    """Return, in brackets, the variables that set the options and values in a message."""
    words = re.split(r"[\s:;,]+", message)
    names = {_variable_of(option, context): _long(option) for option in context.command.params}
    matches = [name for name, long in names.items() if name and (long in words or _is_word(os.environ[name], words))]
    return f" ({' and '.join(f'{name}={os.environ[name]}' for name in matches)} in the environment)" if matches else ""


def _is_word(value: str, words: Collection[str]) -> bool:
    """Whether a value is among the words of a message, and no number, which may be there by chance."""
    return value in words and not value.isdecimal()


def _variable_of(option: Any, context: Any) -> str | None:
    """Return the environment variable that set an option, or None."""
    source = context.get_parameter_source(option.name) if context is not None else None
    return str(option.envvar) if source is not None and source.name == "ENVIRONMENT" else None


def _long(option: Any) -> str:
    names: list[str] = option.opts
    return next((name for name in names if name.startswith("--")), names[0])
