"""Programs in processes of their own that find torch imported, which takes most of the two seconds of a start.

A template, one for each process of the tests, has imported it and forks the programs. Such a program is a child of the
process of the tests, like one of `subprocess`, and its interpreter starts and ends as always.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, AnyStr

from tests.conftest import ROOT

_SET_CHILD_SUBREAPER = 36  # of prctl: orphans among the descendants become children of this process
_LONGEST = 1 << 20  # bytes of a request

_one_at_a_time = threading.Lock()


class Program(subprocess.Popen[AnyStr]):
    """`subprocess.Popen` for a command that begins with `sys.executable` and ``-m MODULE`` or ``-c SCRIPT``.

    It is not for commands that test what a start imports, nor for variables that Python or torch reads at its start. A
    ``preexec_fn`` is not called.
    """

    def _execute_child(self, command: Sequence[str], *others: Any) -> None:  # of CPython 3.11 to 3.14
        if sys.platform != "linux":  # where orphans go to process 1
            super()._execute_child(command, *others)
            return
        (_, _, _, _, cwd, environment, _, _, _, *ends) = others
        stdin, _, _, stdout, _, stderr = ends[:6]
        request = {
            "command": [str(argument) for argument in command[1:]],
            "folder": str(cwd or os.getcwd()),
            "environment": dict(os.environ if environment is None else environment),
            "session": ends[11],
        }
        self.pid = _start(request, [end if end >= 0 else number for number, end in enumerate((stdin, stdout, stderr))])
        self._child_created = True
        self._close_pipe_fds(*ends[:6])  # type: ignore[attr-defined]  # of CPython, too


def run(command: Sequence[str], *, timeout: float = 200, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, see `Program`, and capture what it prints."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Program[str](command, **pipes | options) as program:
        try:
            out, err = program.communicate(timeout=timeout)
        finally:
            program.kill()
    return subprocess.CompletedProcess(command, program.returncode, out, err)


def _start(request: dict[str, object], descriptors: Sequence[int]) -> int:
    """Start a program as a child of this process; returns its number."""
    libc = ctypes.CDLL(None)
    with _one_at_a_time:
        template = _template()
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(template, [json.dumps(request).encode()], descriptors)
            number = int(template.recv(20))
        finally:
            libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # raises an error if it is no child
    return number


@cache
def _template() -> socket.socket:
    """The connection to the template, which ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    template = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    atexit.register(template.wait, timeout=60)
    atexit.register(ours.close)  # which comes first
    return ours


def _serve(connection: socket.socket) -> None:
    """Fork a program for each request; in that process, run it and return."""
    import torch.utils.data  # noqa: F401 - for the programs

    gc.collect()
    gc.freeze()  # else each program would copy most of the memory when it ends

    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, _LONGEST, 3)
        if not request:
            os._exit(0)
        reader, writer = os.pipe()
        if not (middle := os.fork()):
            if program := os.fork():
                os.write(writer, str(program).encode())
                os._exit(0)
            for descriptor in (connection.detach(), reader, writer):
                os.close(descriptor)
            return _become(json.loads(request), descriptors)
        os.waitpid(middle, 0)  # now the program is an orphan
        connection.send(os.read(reader, 20))
        for descriptor in (*descriptors, reader, writer):
            os.close(descriptor)


def _become(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Make this process what the request asks for, and run the program."""
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even if nohup runs the tests
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        mode, buffering = "r" if number == 0 else "w", 1 if number == 2 else -1
        new = open(number, mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115 - open to the end
        setattr(sys, name, new)
    kind, program, *sys.argv[1:] = request["command"]
    sys.path.insert(0, os.getcwd())
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = "-c"
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), vars(main))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
