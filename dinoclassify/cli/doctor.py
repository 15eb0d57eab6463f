"""`dinoclassify doctor`."""

from dataclasses import asdict

from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_table


def doctor(as_json: options.AsJson = False) -> None:
    """Show what this machine has.

    Versions, devices, decoders, models and limits, with the cure for what is missing.
    """
    from dinoclassify.doctor import examine

    print_table([asdict(finding) for finding in examine()], as_json=as_json)
