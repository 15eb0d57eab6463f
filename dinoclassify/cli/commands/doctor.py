"""`dinoclassify doctor`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_table, say, writing_to_stdout
from dinoclassify.messages import printable

if TYPE_CHECKING:
    from dinoclassify.diagnostics.finding import Finding


def doctor(
    model: options.CheckedModel = None, output: options.CheckedOutput = None, as_json: options.AsJson = False
) -> int:
    """Check whether a run can start on this machine.

    Shows versions, devices, decoders, models, places to write to and limits. Each finding has a
    verdict, and a cure if something is missing. Exit code 0: a run can start. 1: a problem prevents it.

    Examples:
      dinoclassify doctor
      dinoclassify doctor -m small -o /data/labels.csv
    """
    from dinoclassify.diagnostics.doctor import examine

    findings = examine(model, output)
    if not as_json and sys.stdout is not None and sys.stdout.isatty():
        _print_for_people(findings)
    else:
        print_table([asdict(finding) for finding in findings], as_json=as_json)
    problems = [f"{finding.topic} {finding.name}" for finding in findings if finding.verdict == "problem"]
    if problems:
        say(f"these problems stop a run: {', '.join(problems)}")
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
