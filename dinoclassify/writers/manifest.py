"""The manifest of a folder of parts: their names, and what their rows depend on."""

import json
from collections.abc import Mapping
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.storage.remote.filesystem import open_place, read_file

MANIFEST = "_manifest.json"  # readers of folders of Parquet skip names that begin with _


def read_manifest(folder: str) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if it has none.

    Raises:
        UsageError: it cannot be read.
    """
    fs, path = open_place(folder)
    content = read_file(fs, f"{path}/{MANIFEST}")
    return parse(content, f"{folder}/{MANIFEST}", {"run", "made_with", "parts"}) if content is not None else None


def part_files(folder: str) -> list[str]:
    """Return the files or URLs of the parts of a folder, in order.

    Raises:
        UsageError: the folder has no manifest, or one that cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} is no folder that predict wrote: it has no {MANIFEST}")
    return [f"{folder.rstrip('/')}/{part['name']}" for part in manifest["parts"]]


def dump(content: Mapping[str, object]) -> bytes:
    """Return a manifest, or the metadata of a folder's journal, as JSON."""
    return json.dumps(content, indent=2, default=str).encode("ascii")


def parse(content: bytes, name: str, required: set[str]) -> dict[str, Any]:
    """Return what `dump` wrote to the file ``name``.

    Raises:
        UsageError: it is not JSON, or lacks a required key.
    """
    try:
        parsed: dict[str, Any] = json.loads(content)
        if not (isinstance(parsed, dict) and required <= parsed.keys()):
            raise ValueError("it lacks what a run writes")
    except ValueError as error:
        raise UsageError(f"cannot read {name} ({error}): restore it, or choose another folder") from error
    return parsed
