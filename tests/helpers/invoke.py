"""Run the command in the process of the tests, which saves the second that a start takes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.cli import run

Invoke = Callable[..., tuple[int, str, str]]  # arguments -> exit code, stdout, stderr
InvokeForMessages = Callable[..., tuple[int, str]]  # arguments -> exit code, stderr


def invoker(capfd: pytest.CaptureFixture[str], *first: str) -> Invoke:
    """A function that runs the command with these arguments and those it is given."""

    def invoke(*arguments: str | Path | int) -> tuple[int, str, str]:
        code = run([*first, *map(str, arguments)])
        return code, *capfd.readouterr()

    return invoke


def message_invoker(capfd: pytest.CaptureFixture[str], *first: str) -> InvokeForMessages:
    """The same for commands that write to files."""
    invoke = invoker(capfd, *first)

    def invoke_for_messages(*arguments: str | Path | int) -> tuple[int, str]:
        code, _, err = invoke(*arguments)
        return code, err

    return invoke_for_messages
