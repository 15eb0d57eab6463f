"""Checks of this machine, each with a verdict: is anything missing, or in the way of a run?

No model is loaded and the network is not used. Large libraries are imported in a subprocess, because they may kill
their process without a message where memory is short.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from dinoclassify.diagnostics.finding import Finding, Verdict
from dinoclassify.messages import first_line
from dinoclassify.models.names import DEFAULT, ModelName, find_flaw, is_builtin_installed, resolve
from dinoclassify.version import __version__

_IMPORT_TIMEOUT = 60.0  # seconds, for torch
_INSTALL_AGAIN = "pip install --force-reinstall dinoclassify"


def examine(model: str | None = None, output: str | None = None) -> list[Finding]:
    """Check versions, devices, decoders, the model, places to write to, and limits. Problems come last.

    ``model`` must be available; the default model may be absent. ``output`` is what is to be written; without it, the
    working folder is checked.

    Raises:
        UsageError: ``model`` cannot be the name of a model.
    """
    from dinoclassify.diagnostics.preflight import check_limits, check_places

    model_name = resolve(model or DEFAULT)
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("version", _versions),
        ("device", _devices),
        ("decoder", _heif),
        ("runtime", _runtimes),
        ("model", partial(_models, model or DEFAULT, model_name, required=model is not None)),
        ("place", partial(check_places, output)),
        ("limit", check_limits),
    ]
    findings = [finding for topic, check in checks for finding in _safely(topic, check)]
    return sorted(findings, key=lambda finding: ("ok", "advice", "problem").index(finding.verdict))


def _safely(topic: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error that stops it becomes its last finding."""
    try:
        yield from check()
    except Exception as error:  # whatever a broken library may raise
        yield Finding("problem", topic, "doctor", f"{type(error).__name__}: {first_line(error)}", _INSTALL_AGAIN)


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "version", "dinoclassify", __version__)
    yield Finding("ok", "version", "python", platform.python_version())
    for package in ("torch", "transformers", "pillow"):
        try:
            yield Finding("ok", "version", package, version(package))
        except PackageNotFoundError:
            yield Finding("problem", "version", package, "missing", _INSTALL_AGAIN)


def _devices() -> Iterator[Finding]:
    """The devices of torch and the decoders of Pillow, listed by a subprocess."""
    command = [sys.executable, "-P", "-c", "from dinoclassify.diagnostics.devices import print_json; print_json()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # without the working folder
    try:
        result = subprocess.run(  # noqa: S603 - this program itself
            command, capture_output=True, text=True, errors="replace", timeout=_IMPORT_TIMEOUT, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("problem", "device", "torch", f"cannot be tried: {first_line(error)}", "allow more processes")
        return
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {result.returncode}"
        memory = f"{_INSTALL_AGAIN}, or allow more memory and processes"
        yield Finding("problem", "device", "torch", f"cannot be imported: {reason}", memory)
        return
    lists = json.loads(result.stdout)
    for name, description in lists["devices"].items():
        yield Finding("ok", "device", name, description)
    for name, decoder in lists["decoders"].items():
        cure = None if decoder else "install a Pillow that has it"
        yield Finding.advise("decoder", name, decoder or "missing", cure)


def _runtimes() -> Iterator[Finding]:
    from dinoclassify.system.environment import few_processes

    if find_spec("openvino") is None:
        yield Finding("advice", "runtime", "openvino", "missing", f"faster on a CPU: {_install('openvino')}")
    elif few_processes():
        yield Finding("advice", "runtime", "openvino", "not used: few processes may be started", "allow more processes")
    else:
        yield Finding("ok", "runtime", "openvino", version("openvino"))


def _heif() -> Iterator[Finding]:
    cure = None if find_spec("pillow_heif") is not None else _install("heif")
    yield Finding.advise("decoder", "heif", "missing" if cure else "installed", cure)


def _models(name: str, model: ModelName, *, required: bool) -> Iterator[Finding]:
    """The model that ``name`` resolves to, the builtin one, and the Hub."""
    from huggingface_hub import constants

    if model.kind == "builtin":
        yield _builtin(name, "problem")
    else:
        yield _hub_model(name, model.name, required=required) if model.kind == "hub" else _folder(name, model.name)
        yield _builtin("builtin", "advice")
    yield Finding("ok", "model", "hub cache", constants.HF_HUB_CACHE)
    yield Finding("ok", "model", "hub", "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked if need be")


def _builtin(name: str, if_missing: Verdict) -> Finding:
    if is_builtin_installed():
        return Finding("ok", "model", name, "installed")
    return Finding(if_missing, "model", name, "missing", _install("offline"))


def _folder(name: str, folder: str) -> Finding:
    flaw = find_flaw(folder) if os.path.isdir(folder) else "is no folder: check its name"
    found, _, cure = (flaw or "at hand").partition(": ")
    return Finding("problem" if flaw else "ok", "model", name, found, cure or None)


def _hub_model(name: str, hub_id: str, *, required: bool) -> Finding:
    """Whether a model is in the Hub's cache: a problem if it is required and is not, else advice."""
    from huggingface_hub import constants

    from dinoclassify.models.hub import cached_snapshot

    folder = cached_snapshot(hub_id)
    if folder is not None and find_flaw(folder) is None:
        return Finding("ok", "model", name, folder)
    found, cure = "not on this machine", "a run fetches it, if it has network; or use --model builtin"
    if constants.HF_HUB_OFFLINE:
        found, cure = "not on this machine, and HF_HUB_OFFLINE is set", "unset that, or use --model builtin"
    blocking = required or (bool(constants.HF_HUB_OFFLINE) and not is_builtin_installed())
    return Finding("problem" if blocking else "advice", "model", name, found, cure)


def _install(extra: str) -> str:
    return f"pip install 'dinoclassify[{extra}]'"
