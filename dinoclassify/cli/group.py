"""The commands by name. The module of one, and all that it imports, is loaded when the command is run or explained."""

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from dinoclassify.cli.coercion import without_pydantic
from dinoclassify.cli.command import Command, with_help
from dinoclassify.cli.help import lay_out, without_types
from dinoclassify.cli.terminal import writing_to_stdout
from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest

# In the order of the help. Each summary is the first paragraph of the command's own help, which a test compares.
SUMMARIES = {
    "predict": "Label images.",
    "merge": "Merge the files of several runs into one.",
    "embed": "Write the features of images, for search and clustering.",
    "train": "Train a classifier for your own classes.",
    "evaluate": "Measure how good a model, or a file of rows, is.",
    "sort": "Put images into one folder for each label.",
    "tag": "Write labels as keywords into sidecar files for photo managers.",
    "report": "Make one HTML page of rows, to look at and to send.",
    "bench": "Measure the speed on this machine, and say what limits it.",
    "models": "List the models with short names.",
    "doctor": "Check whether a run can start on this machine.",
    "guide": "Show the manual.",
}


def markup() -> Literal["rich"] | None:
    """Return how help is printed: with rich on a terminal, and as plain text in a pipe."""
    return "rich" if sys.stdout is not None and sys.stdout.isatty() else None


@cache
def _load(name: str) -> Any:  # Typer's own types are private
    """Return a command, from the function of this name in the module of this name."""
    function = getattr(import_module(f"dinoclassify.cli.commands.{name}"), name)
    alone = typer.Typer(add_completion=False, rich_markup_mode=markup())
    alone.command(cls=Command)(function)
    return typer.main.get_command(alone)


class _Commands(Mapping[str, Any]):
    """The commands, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if name not in SUMMARIES:
            raise KeyError(name)
        return _load(name)

    def __contains__(self, name: object) -> bool:
        return name in SUMMARIES

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


class Group(TyperGroup):
    """The commands; explains an argument that is no command."""

    def __init__(self, **settings: Any) -> None:  # Typer calls it so
        super().__init__(**settings)
        self.help = lay_out(self.help or "")
        self.commands = _Commands()  # type: ignore[assignment]  # nothing adds to it

    def get_params(self, context: Any) -> list[Any]:
        """Return the parameters, without types that say nothing."""
        return without_types(without_pydantic(super().get_params(context)))

    def list_commands(self, _: Any) -> list[str]:
        """Return the names of the commands."""
        return list(SUMMARIES)

    def get_command(self, _: Any, name: str) -> Any:
        """Return what lists of commands show of one, without loading it; None if there is none of this name."""
        return TyperCommand(name, help=SUMMARIES[name]) if name in SUMMARIES else None

    def resolve_command(self, context: Any, args: list[str]) -> Any:
        """Return the command. Raises UsageError if there is none of this name."""
        name = args[0]
        if name in self.commands:
            return name, self.commands[name], args[1:]
        if os.path.lexists(name) or "/" in name or "*" in name:
            raise UsageError(f"{name} is not a command; to label it: dinoclassify predict {name}")
        if name in ("help", "version"):
            raise UsageError(f"{name} is not a command; write dinoclassify --{name}")
        near, names = nearest(name, self.commands), ", ".join(self.commands)
        raise UsageError(with_help(f"there is no command {name or repr(name)}{near}: choose {names}", context))

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse the options before the command, or print the help or the version."""
        with writing_to_stdout():
            return super().parse_args(context, args)
