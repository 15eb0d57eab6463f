"""Things that libraries expect and a machine may lack: a home, temporary files, processors, threads, addresses."""

import math
import os
import resource
import tempfile
from contextlib import suppress

from dinoclassify.errors import ModelError
from dinoclassify.system import cgroups

NO_HOME = "/nonexistent"  # Debian's home of users without one
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a folder in memory, which a container has even if all its disks are read-only

LEAST_ADDRESSES = 1 << 30  # bytes, as `ulimit -v` limits them: with 0.95 GiB no run of `builtin` succeeded

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def make_do() -> None:
    """Set up replacements for a missing home, temporary folder or threads. Call it before importing libraries."""
    if os.path.expanduser("~") == "~":  # libraries would create a folder of that name, or raise
        os.environ["HOME"] = NO_HOME
    if temporary_folder() is None:
        with suppress(OSError), tempfile.TemporaryFile(dir=SHARED_MEMORY):
            tempfile.tempdir = os.environ["TMPDIR"] = SHARED_MEMORY
    if few_processes():
        for variable in _ONE_THREAD:  # these libraries end the process if a thread cannot be started
            os.environ.setdefault(variable, "1")


def check_addresses() -> None:
    """Raise ModelError if there are too few addresses for large libraries. Call it before importing them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < LEAST_ADDRESSES:
        allowed, least = f"{soft / 2**30:.2f} GiB", f"{LEAST_ADDRESSES / 2**30:g} GiB"
        raise ModelError(f"ulimit -v allows {allowed} of address space, a model needs {least} at least: allow more")


def temporary_folder() -> str | None:
    """The folder for temporary files; None if none of those that Python tries can be written."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return None


def available_cpus() -> int:
    """The number of processors this process may run on, or fewer if its container limits their time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cgroups.read_limits().cpus
    return count if share is None else min(count, max(1, math.ceil(share)))


def default_workers(*, on_cpu: bool) -> int:
    """How many processes decode by default: half the processors if the model runs ``on_cpu`` too, else all but one.

    The model's own threads need a processor each; with half as many workers they do not wait for one.
    """
    cpus = available_cpus()
    return max(1, cpus // 2 if on_cpu else cpus - 1)


def few_processes() -> bool:
    """Whether the limit of processes is too low for libraries to start a thread for each processor."""
    most = most_processes()
    return most is not None and most < 16 + 4 * (os.cpu_count() or 1)


def most_processes() -> int | None:
    """The number of processes and threads that this user or container may have; None if unlimited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [cgroups.read_limits().processes, soft if soft != resource.RLIM_INFINITY else None]
    return min((limit for limit in limits if limit is not None), default=None)


def raise_file_limit(needed: int) -> int:
    """Raise a lower limit of open files to ``needed``; returns ``needed``, or the lower limit that applies."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    if hard != resource.RLIM_INFINITY and hard < needed:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        return soft
    return needed
