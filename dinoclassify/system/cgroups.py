"""The limits of a Linux container or service: those of control groups, version 1 or 2."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_ROOT = "/sys/fs/cgroup"
_NONE = 1 << 60  # version 1 writes "no limit" as a number that no machine reaches


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The limits of this process; None means no limit."""

    memory: int | None = None  # bytes
    cpus: float | None = None  # processors
    processes: int | None = None  # with their threads


def read_limits(root: str = _ROOT, groups: str = "/proc/self/cgroup") -> CgroupLimits:
    """The tightest limits of the control groups of this process; no limits without groups."""
    folders = list(_folders(root, groups))
    memory = [_number(folder, name) for folder in folders for name in ("memory.max", "memory.limit_in_bytes")]
    return CgroupLimits(
        memory=min((limit for limit in memory if limit is not None), default=None),
        cpus=min((share for share in map(_cpu_share, folders) if share is not None), default=None),
        processes=min((most for folder in folders if (most := _number(folder, "pids.max")) is not None), default=None),
    )


def _folders(root: str, groups: str) -> Iterator[str]:
    """The folders of the groups of this process, and of their parents.

    In a container the paths may be those of the host, and only the mounted folder can be read.
    """
    try:
        with open(groups, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        base = os.path.join(root, controllers) if controllers else root  # version 2 names no controllers
        while path not in ("", "/"):
            yield base + path
            path = os.path.dirname(path)
        yield base


def _number(folder: str, name: str) -> int | None:
    """The limit in a file; None if the file has no number, or one that means no limit."""
    with suppress(OSError, ValueError), open(os.path.join(folder, name), encoding="ascii") as file:
        number = int(file.read())
        return number if number < _NONE else None
    return None


def _cpu_share(folder: str) -> float | None:
    """The number of processors that a group may use; None if unlimited. Version 2 has both numbers in one file."""
    with suppress(OSError, ValueError), open(os.path.join(folder, "cpu.max"), encoding="ascii") as file:
        quota, period = file.read().split()
        return int(quota) / int(period)
    quota_us, period_us = _number(folder, "cpu.cfs_quota_us"), _number(folder, "cpu.cfs_period_us")
    return quota_us / period_us if quota_us is not None and quota_us > 0 and period_us else None
