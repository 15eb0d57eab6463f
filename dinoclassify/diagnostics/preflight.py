"""`doctor`'s checks of the places that a run writes to, and of the limits of this machine."""

import locale
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dinoclassify.diagnostics.finding import Finding, Verdict
from dinoclassify.errors import DinoclassifyError
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.cache.folder import cache_root
from dinoclassify.storage.lock import NO_LOCKS, flocked
from dinoclassify.storage.missing import why_no_folder
from dinoclassify.storage.remote.opening import filesystem
from dinoclassify.storage.remote.url import is_url
from dinoclassify.system import cgroups
from dinoclassify.system.environment import SHARED_MEMORY, few_processes, most_processes, temporary_folder
from dinoclassify.writers.stream import check_place

_ROOM = 64 << 20  # bytes: some networks prepared for OpenVINO are larger
_MEMORY = 512 << 20, 1 << 30  # bytes, needed and recommended: `builtin` uses 0.4 GB, and 0.7 while OpenVINO prepares it
_ADDRESSES = 1400 << 20, 3 << 30  # bytes of `ulimit -v`, needed and recommended: 1.0 GB is too little, 1.5 is enough
_PROCESSES = 6  # including threads: 4 are too few


def check_places(output: str | None) -> Iterator[Finding]:
    """Check that the cache, the temporary files and the output can be written."""
    root = cache_root()
    reason = _why_unwritable(_nearest(root))
    cure = (
        "set XDG_CACHE_HOME to a folder that can be written; without it every run prepares its model again"
        if reason
        else None
    )
    yield Finding.advise("place", "cache", f"{root}: {reason}" if reason else str(root), cure)
    yield _temporary()
    yield from _output(output)
    if os.path.isdir(SHARED_MEMORY):
        free = shutil.disk_usage(SHARED_MEMORY).free
        cure = "give the container more with --shm-size" if free < _ROOM else None
        yield Finding.advise("place", SHARED_MEMORY, f"{_gib(free)} free", cure)


def check_limits() -> Iterator[Finding]:
    """Check memory, processors, processes and the encoding of names."""
    groups = cgroups.read_limits()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else None
    if memory is not None:
        yield _sized("memory", memory, "", _MEMORY)
    if groups.memory is not None:
        yield _sized("memory of the container", groups.memory, " by its control group", _MEMORY)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield _sized("address space", soft, " by ulimit -v", _ADDRESSES)
    if groups.cpus is not None:
        yield Finding("ok", "limit", "processors", f"{groups.cpus:g} by the control group")
    if (most := most_processes()) is not None:
        verdict: Verdict = "problem" if most < _PROCESSES else "advice" if few_processes() else "ok"
        cure = None if verdict == "ok" else "allow more: ulimit -u, or --pids-limit of the container"
        yield Finding(verdict, "limit", "processes", f"{most:,}, threads included", cure)
    encoding = locale.getpreferredencoding(do_setlocale=False)
    is_utf8 = {encoding.lower(), sys.getfilesystemencoding().lower()} <= {"utf-8", "utf8"}
    cure = None if is_utf8 else "set LC_ALL=C.UTF-8; without it names with other letters appear as \\xNN"
    yield Finding.advise("limit", "encoding", encoding, cure)


def _temporary() -> Finding:
    folder = temporary_folder()
    if folder is None:
        return Finding("problem", "place", "temporary", "no folder that can be written to", "set TMPDIR to one")
    return _room("temporary", folder, "make room there, or set TMPDIR to another folder")


def _output(output: str | None) -> Iterator[Finding]:
    """Check that the folder of the output can be written, has room, and supports locks."""
    output = output if output != "-" else None  # rows on stdout need no folder
    if output is not None and (is_url(output) or not (is_regular(output) or os.path.isdir(output))):
        yield _output_elsewhere(output)
        return
    path = os.path.abspath(output or ".")
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if not os.path.isdir(folder):
        trouble = why_no_folder(folder)
        yield Finding("problem", "place", "output", trouble.reason, trouble.cure)
        return
    if reason := _why_unwritable(folder):
        cure = (
            "let this user write there" if output else "rows on stdout still work; check another folder with --output"
        )
        yield Finding("problem" if output else "advice", "place", "output", f"{folder}: {reason}", cure)
        return
    yield _room("output", folder, "make room there")
    yield _locks(folder)


def _room(name: str, folder: str, cure: str) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding.advise("place", name, f"{folder}, {_gib(free)} free", cure if free < _ROOM else None)


def _output_elsewhere(output: str) -> Finding:
    """Whether a store, a device or a pipe can be an output, without writing to it."""
    try:
        if is_url(output):
            filesystem(output)
        else:
            check_place(output)
    except DinoclassifyError as error:
        return Finding("problem", "place", "output", str(error))
    kind = "in a store" if is_url(output) else "a device or a pipe"
    return Finding("ok", "place", "output", f"{output}: {kind}; doctor does not try to write there")


def _locks(folder: str) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".dinoclassify-doctor-") as file:
            os.close(flocked(file.name, wait=False))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        cure = "if a message names the .claim of a run that was killed on another machine, remove that file"
        return Finding("advice", "place", "locks", "this file system has none: runs use .claim files", cure)
    return Finding("ok", "place", "locks", "by the kernel")


def _nearest(folder: Path) -> str:
    """The folder itself or its nearest ancestor that exists, even as a file."""
    return str(next(above for above in (folder, *folder.parents) if os.path.lexists(above)))


def _why_unwritable(folder: str) -> str | None:
    """Why no file can be written in a folder; None if one can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".dinoclassify-doctor-") as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _sized(name: str, size: int, limited_by: str, thresholds: tuple[int, int]) -> Finding:
    """A limit in bytes; ``thresholds`` are the bytes that are needed, and that are recommended."""
    needed, good = thresholds
    verdict: Verdict = "problem" if size < needed else "advice" if size < good else "ok"
    advice = f"{'allow more' if limited_by else 'use a machine with more'}: {_gib(good)} at least"
    return Finding(verdict, "limit", name, _gib(size) + limited_by, None if verdict == "ok" else advice)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
