"""What one image takes as a whole process: dinoclassify against the transformers pipeline, cold and warm.

Cold: with an empty cache, so that the run prepares the model. Warm: an earlier run has prepared it. Both find their
files in memory, as they have been read before; that is why a pipeline, which prepares nothing, has only a warm start.
"""

import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub import constants

from dinoclassify.diagnostics import one_process

log = logging.getLogger(__name__)

PIPELINE = "transformers pipeline"  # the name of its program

_SCRIPT = """
import sys
from transformers import pipeline
classifier = pipeline("image-classification", model=sys.argv[1], device=sys.argv[2])
print(classifier(sys.argv[3])[0]["label"])
"""

Cache = Literal["cold", "warm"]


@dataclass(frozen=True, slots=True)
class Start:
    """A program that labels one image: medians of all runs, and the least and most seconds.

    ``megabytes`` are the peak of its largest process.
    """

    name: str
    cache: Cache
    seconds: float
    least: float
    most: float
    core_seconds: float
    megabytes: float
    runs: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a program took."""

    seconds: float
    megabytes: float
    core_seconds: float


@dataclass(slots=True)
class Program:
    """A program to start, and its runs so far. If its ``cache`` is cold, the folder ``cache_home`` is emptied first."""

    name: str
    cache: Cache
    command: Sequence[str]
    cache_home: str
    runs: list[Run] = field(default_factory=list)


class StartError(Exception):
    """A program failed; the message is the last line of its stderr."""


def ours(model: str, image: str, scratch: str, *, runtimes: Sequence[str], options: Sequence[str]) -> list[Program]:
    """`dinoclassify predict`, cold and warm as it chooses, and warm in the second of ``runtimes``, if there is one.

    ``options`` are those of predict. The warm runs use what a cold run has prepared in ``scratch``.
    """
    command = [*_python(), "-m", "dinoclassify", "predict", "-q", "-m", model, *options, image]
    default, *others = runtimes
    name, home = f"dinoclassify, {default}", os.path.join(scratch, default)
    programs = [Program(name, "cold", command, home), Program(name, "warm", command, home)]
    for runtime in others[:1]:
        home = os.path.join(scratch, runtime)
        programs.append(Program(f"dinoclassify, {runtime}", "warm", [*command, "--runtime", runtime], home))
    return programs


def theirs(checkpoint: str, image: str, scratch: str, *, device: str) -> Program:
    """The transformers pipeline as a script of four lines, imports included."""
    command = [*_python(), "-c", _SCRIPT, checkpoint, device, image]
    return Program(PIPELINE, "warm", command, os.path.join(scratch, "pipeline"))


def run_starts(programs: list[Program], rounds: int, notes: list[str]) -> None:
    """Run all programs in turn, in each round. One that fails is removed from the list, with a note."""
    for number in range(rounds):
        for program in list(programs):
            log.info("start %d of %d: %s, %s", number + 1, rounds, program.name, program.cache)
            try:
                _run_next(program)
            except StartError as error:
                notes.append(f"the {program.cache} start of {program.name} is not measured ({error})")
                programs.remove(program)


def _run_next(program: Program) -> None:
    """Run a program once more. A warm one whose cache is missing is run before, to prepare its model."""
    if program.cache == "cold":
        shutil.rmtree(program.cache_home, ignore_errors=True)
    elif not os.path.isdir(program.cache_home):
        run_once(program.command, program.cache_home)
    program.runs.append(run_once(program.command, program.cache_home))


def summary(program: Program) -> Start:
    """The medians of the runs of a program, which has at least one."""
    seconds = [run.seconds for run in program.runs]
    return Start(
        name=program.name,
        cache=program.cache,
        seconds=round(statistics.median(seconds), 3),
        least=round(min(seconds), 3),
        most=round(max(seconds), 3),
        core_seconds=round(statistics.median(run.core_seconds for run in program.runs), 3),
        megabytes=round(statistics.median(run.megabytes for run in program.runs), 1),
        runs=len(program.runs),
    )


def run_once(command: Sequence[str], cache_home: str) -> Run:
    """Run a command in a process of its own, which ends if this function is interrupted. Raises StartError."""
    os.makedirs(cache_home, exist_ok=True)
    launcher = [sys.executable, "-I", "-S", one_process.__file__, *command]
    with subprocess.Popen(  # noqa: S603 - ours, with options of the user
        launcher,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(cache_home),
        start_new_session=True,  # a group, to be killed as one
        text=True,
        errors="replace",
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    code = 1
    if process.returncode == 0:
        seconds, peak, core_seconds, code = json.loads(out)
    if code != 0:
        raise StartError(next(reversed(err.strip().splitlines()), f"exit code {code}"))
    return Run(seconds, peak / 1e6, core_seconds)


def _python() -> list[str]:
    """The interpreter, which finds modules where this process does: in the current folder only if this one does."""
    return [sys.executable] if {"", os.getcwd()} & {*sys.path} else [sys.executable, "-P"]


def _environment(cache_home: str) -> Mapping[str, str]:
    """Ours, but with another cache, without options of predict, and with the Hub's cache where it is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DINOCLASSIFY_")}
    return kept | {"XDG_CACHE_HOME": cache_home, "HF_HUB_CACHE": constants.HF_HUB_CACHE}
