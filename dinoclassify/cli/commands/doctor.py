"""`dinoclassify doctor`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_table, say, writing_to_stdout
from dinoclassify.messages import printable

if TYPE_CHECKING:
    from dinoclassify.diagnostics.finding import Finding

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME|./DIR", help="Check whether this model is on this machine.", show_envvar=False
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE|DIR", help="Check whether this can be written; by default the working folder.",
        show_envvar=False,
    ),
]  # fmt: skip


def doctor(model: Model = None, output: Output = None, as_json: options.AsJson = False) -> int:
    """Show what this machine has and lacks.

    Versions, devices, decoders, the model, places to write to and limits, each with a verdict, and with the cure for
    what is missing. Exit code 0: a run can start; 1: a problem prevents it.
    """
    from dinoclassify.diagnostics.doctor import examine

    findings = examine(model, output)
    if not as_json and sys.stdout is not None and sys.stdout.isatty():
        _print_for_people(findings)
    else:
        print_table([asdict(finding) for finding in findings], as_json=as_json)
    problems = [f"{finding.topic} {finding.name}" for finding in findings if finding.verdict == "problem"]
    if problems:
        say(f"this stands in the way of a run: {', '.join(problems)}")
    return 1 if problems else 0


@writing_to_stdout()
def _print_for_people(findings: "Sequence[Finding]") -> None:
    """Print a table that fits 80 columns, with each cure below its finding."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("verdict", "topic", "name", "found"):
        table.add_column(name, overflow="fold", no_wrap=name in ("verdict", "topic"))
    for finding in findings:
        style = {"ok": "", "advice": "yellow", "problem": "bold red"}[finding.verdict]
        cure = f"\n-> {printable(finding.cure)}" if finding.cure is not None else ""
        cells = (finding.verdict, finding.topic, printable(finding.name), f"{printable(finding.found)}{cure}")
        table.add_row(*map(Text, cells), style=style)
    Console().print(table)
