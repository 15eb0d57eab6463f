"""A program of its own, `python one_process.py COMMAND...`: prints seconds, peak memory, core seconds and exit code.

The system counts the memory of the process that starts a command as that command's. This program takes some megabytes,
and `bench` takes gigabytes. The peak is that of the largest process, the command or one of its children.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run the command of the arguments, without its output."""
    started = time.perf_counter()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - what `bench` asks for
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([seconds, peak, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)]))


if __name__ == "__main__":
    main()
