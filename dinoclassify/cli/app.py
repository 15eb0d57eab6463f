"""The command line: arguments, help, messages and exit codes; the work is done below.

Only the module of the command that is run is imported, see `cli.group`, so that `--help` and `--version` load nothing
else. The commands import the packages that need torch themselves.
"""

import errno
import io
import logging
import os
import signal
import sys
import warnings
from typing import Annotated, Never

import typer

from dinoclassify.__main__ import exit_at_once
from dinoclassify.cli.command import explain
from dinoclassify.cli.ending import end_process
from dinoclassify.cli.group import Group, markup
from dinoclassify.cli.runs.signals import SIGNALS, Stopped, stop_at_once, stopped
from dinoclassify.cli.terminal import hush, keep_stderr_from_failing, say, writing_to_stdout
from dinoclassify.errors import DinoclassifyError, OutputClosedError, UsageError, WorkerError
from dinoclassify.system.environment import SHARED_MEMORY, make_do, temporary_folder
from dinoclassify.version import __version__

log = logging.getLogger("dinoclassify")

_EPILOG = (
    "Exit codes: 0 success, 1 internal error or a problem that doctor found, 2 wrong usage, 3 some rows failed, "
    "4 an input is missing, 5 the model cannot be loaded, 6 the output cannot be written, 7 stopped to protect the "
    "output, 11 another run writes the output, 130 and 143 stopped by SIGINT and SIGTERM. "
    "More: dinoclassify guide failures"
)

_NO_MEMORY_IN_WORDS = ("bad_alloc", "t allocate memory", "could not create a primitive")  # the last is oneDNN's
_NO_MEMORY = b"dinoclassify: there is not enough memory: try a smaller --model, --batch-size or number of --workers\n"

app = typer.Typer(
    cls=Group,
    rich_markup_mode=markup(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dinoclassify {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Label folders of images with DINOv2, or any transformers image classifier.

    Examples:
      dinoclassify predict photos/ -o labels.csv      # one row for each image
      dinoclassify sort labels.csv --into sorted/     # one folder for each label
      dinoclassify guide resume                       # the manual, by topic
    """
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
    try:
        os.getcwd()
    except FileNotFoundError as error:  # libraries would end the process without a message
        raise UsageError("the current folder is gone: change to another one (cd)") from error
    make_do()


def main() -> Never:
    """Run the command line and end the process."""
    keep_stderr_from_failing()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that the terminal lacks
    if "_DINOCLASSIFY_COMPLETE" in os.environ:
        hush()  # a message would stand in the line that the user types
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn programmers, not users
    try:
        for number in SIGNALS:
            signal.signal(number, stop_at_once)
        code = run(sys.argv[1:])
    except Stopped as stop:  # outside of `run`
        code = _report_stop(stop)
    for number in SIGNALS:
        signal.signal(number, exit_at_once)
    end_process(code)


def run(arguments: list[str]) -> int:
    """Run the command line, and return the exit code. Prints every error, as one line on stderr."""
    try:
        code = app(arguments, prog_name="dinoclassify", standalone_mode=False) or 0
        with writing_to_stdout():  # what Typer printed
            return code
    except typer.TyperException as error:
        say(explain(error))
        return 2
    except DinoclassifyError as error:
        log.debug("%s", error, exc_info=error)
        say(str(error))
        if isinstance(error, WorkerError):
            hush()  # torch's DataLoader complains when it is torn down early
        return error.exit_code
    except (OutputClosedError, SystemExit):  # Typer exits with 1 if stdout is closed
        # Python flushes stdout when it exits, and must not find it closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Stopped as stop:
        return _report_stop(stop)
    except Exception as error:
        if stopped:  # a signal came during an import, which failed for that reason
            return _report_stop(stopped[0])
        return _report_unexpected(error)


def _report_stop(stop: Stopped) -> int:
    """Say once which signal ended the run. Returns the exit code."""
    if not stop.is_said:
        say(str(stop))  # a run that writes rows says it itself
        stop.is_said = True
    return stop.exit_code


def _report_unexpected(error: Exception) -> int:
    """Explain an error that the program does not raise itself. Returns the exit code."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s", error, exc_info=error)
    if _lacks_folder(error):
        cure = "set TMPDIR to a folder that can be written and has room (dinoclassify guide doctor)"
        say(f"there is no room for temporary files ({error}): {cure}")
    elif _lacks_processes(error):
        say("no more processes or threads may be started: allow more (ulimit -u, or --pids-limit of the container)")
        hush()
    elif isinstance(error, ImportError | SystemError):  # C extensions raise SystemError without memory
        say(f"a library cannot be loaded: {error}; install dinoclassify again, or allow it more memory")
    elif _lacks_memory(error):
        os.write(2, _NO_MEMORY)  # printing in another way takes memory
        hush()  # half-imported libraries complain at exit
    else:
        say(f"internal error: {error or type(error).__name__}; --debug shows where")
    return 1


def _lacks_folder(error: Exception) -> bool:
    """Whether the folder for temporary files is missing, full or read-only."""
    if not isinstance(error, OSError):
        return False
    folder = temporary_folder()
    if folder is None:
        return True
    from dinoclassify.storage.atomic import FULL  # slow to import

    return error.errno in FULL and str(error.filename or "").startswith((f"{folder}/", f"{SHARED_MEMORY}/"))


def _lacks_processes(error: Exception) -> bool:
    """Whether the system refused to start a process or a thread."""
    return isinstance(error, BlockingIOError) or "can't start new thread" in str(error)


def _lacks_memory(error: Exception) -> bool:
    """Whether there was no memory for Python, or for a C++ library, which raises a RuntimeError."""
    in_words = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY_IN_WORDS)
    return isinstance(error, MemoryError) or in_words or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
