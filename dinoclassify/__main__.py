"""The `dinoclassify` command, and `python -m dinoclassify`: it handles signals before it imports anything slow."""

import os
import sys

TYPE_CHECKING = False  # type checkers take it as true; `typing` is slow to import
if TYPE_CHECKING:
    from typing import Never


def main() -> "Never":
    """Run the command line and exit."""
    try:
        restart_in_utf8_mode()
        import signal

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, exit_at_once)
        watches = "--watch" in sys.argv or "DINOCLASSIFY_PREDICT_WATCH" in os.environ
        if watches and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: None)  # a service is told so that its output was rotated
    except KeyboardInterrupt:
        _exit("SIGINT", 130)
    from dinoclassify.cli import main as run_command_line

    run_command_line()


def restart_in_utf8_mode() -> None:
    """Begin again in Python's UTF-8 mode where the locale has another encoding: rows keep the bytes of names.

    Processes that are started later inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return  # the second where Python was told otherwise: it does not begin a third time
    os.environ["PYTHONUTF8"] = "1"  # which -E ignores, and -X does not
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program


def exit_at_once(number: int, _: object) -> "Never":
    """The signal handler while nothing is under way: a half-imported library must not see an exception."""
    import signal

    _exit(signal.Signals(number).name, 128 + number)


def _exit(name: str, code: int) -> "Never":
    try:
        os.write(2, f"dinoclassify: stopped by {name}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
