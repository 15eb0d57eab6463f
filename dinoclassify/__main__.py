"""The `dinoclassify` command, and `python -m dinoclassify`. It handles signals before it imports anything slow."""

import os
import sys

TYPE_CHECKING = False  # true for type checkers; `typing` is slow to import
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
            signal.signal(signal.SIGHUP, lambda *_: None)  # the sign to a service that its output was rotated
    except KeyboardInterrupt:
        _exit("SIGINT", 130)
    from dinoclassify.cli import main as run_command_line

    run_command_line()


def restart_in_utf8_mode() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding, so that rows keep the bytes of file names.

    Processes that are started later inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return  # PYTHONUTF8=1 had no effect, as under -X utf8=0: another restart would have none either
    os.environ["PYTHONUTF8"] = "1"  # for later processes; -X also works under -E, which ignores this
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program


def exit_at_once(number: int, _: object) -> "Never":
    """The signal handler before a run starts: a half-imported library must not see an exception."""
    import signal

    _exit(signal.Signals(number).name, 128 + number)


def _exit(name: str, code: int) -> "Never":
    try:
        os.write(2, f"dinoclassify: stopped by {name}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
