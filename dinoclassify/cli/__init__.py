"""The command line: arguments, help, messages and exit codes; the work is done below."""

from dinoclassify.cli.app import main, run

__all__ = ["main", "run"]
