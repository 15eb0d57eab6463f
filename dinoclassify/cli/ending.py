"""The end of the process."""

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import Never

from dinoclassify.cli.terminal import say, writing_to_stdout
from dinoclassify.errors import OutputClosedError, OutputError


def end_process(code: int) -> Never:
    """End the process in the steps of Python's own exit, but leave its memory to the system.

    To take apart the interpreter with torch or OpenVINO in it takes longer than the labels of an image.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads and their pools; Python calls it by name
    atexit._run_exitfuncs()  # removes temporary folders, ends processes, closes sessions
    os._exit(_flush(code))


def _flush(code: int) -> int:
    """Flush what is left to print. Returns the exit code."""
    try:
        with writing_to_stdout():
            pass
    except OutputClosedError:  # nobody reads it
        pass
    except OutputError as error:
        say(str(error))
        code = code or error.exit_code
    with suppress(OSError):  # nobody could be told
        sys.stderr.flush()
    return code
