"""What rows depend on besides their images, and the metadata that says so: rows go together where it is the same."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.storage.atomic import as_output_errors, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.writers.formats import MAGIC, TABLES, open_format

START_OVER = "--fresh instead of --resume starts over"

# Parts of a fingerprint that an option of their name sets. The files of a local model are a part without an option.
_VALUES = {"model", "revision", "top-k", "threshold", "column", "dtype", "format", "runtime", "precision"}
_FLAGS = {"exact", "normalize"}
_FILES = {"labels", "groups"}  # whose content is known by a digest
_COMMIT = 40  # digits of a revision of the hub; other revisions are digests


def read_meta(path: str, rows: str, *, cure: str = START_OVER) -> dict[str, Any]:
    """The metadata of a file of rows.

    Args:
        path: the file with the metadata.
        rows: what messages call the file of rows.
        cure: what else to do, for messages.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            meta: dict[str, Any] = json.load(file)
        dict(meta["made_with"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {OutputPaths(rows).meta}, which says what made {rows}: {cure}") from error
    return meta


def carried_meta(rows: str) -> dict[str, Any]:
    """The metadata that a file of rows carries itself, as tables do; nothing if it carries none."""
    meta: object = None
    with suppress(OSError, ValueError, RecursionError):
        with open(rows, "rb") as file:
            name = TABLES.get(file.read(MAGIC))
        if name is not None:
            meta = open_format(name, top_k=1).read_meta(rows)
    return meta if isinstance(meta, dict) and isinstance(meta.get("made_with"), dict) else {}


def write_meta(path: str, meta: Mapping[str, object], *, rights_of: str | None = None) -> None:
    """Write metadata: all of it, or nothing changes. For ``rights_of`` see `storage.atomic.replacing`.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path, rights_of=rights_of) as file, as_output_errors(path):
        file.write(json.dumps(meta, indent=2, default=str).encode("utf-8") + b"\n")


def is_appended(meta: Mapping[str, object]) -> bool:
    """Whether rows were added at the end, as ``--watch`` adds them: of several rows of an image the last counts."""
    options = meta.get("options")
    return bool(meta.get("appended")) or (isinstance(options, dict) and bool(options.get("watch")))


def as_json(fingerprint: Mapping[str, object]) -> dict[str, object]:
    """A fingerprint as it comes back from a file."""
    content: dict[str, object] = json.loads(json.dumps(fingerprint))
    return content


def check_fingerprint(
    before: Mapping[str, object],
    rows: str,
    now: Mapping[str, object],
    *,
    option: str = "--resume",
    cure: str = START_OVER,
) -> None:
    """Compare what made ``rows`` with what this run would make rows with.

    Args:
        before: the fingerprint in their metadata.
        rows: the name of their file, for messages.
        now: the fingerprint of this run.
        option: the option that asks for them, for messages.
        cure: what to do besides matching them, for messages.

    Raises:
        UsageError: they differ. The message says which options match the rows.
    """
    differences = [name for name in now if before.get(name) != now[name]]
    if not differences:
        return
    if "model" in differences:  # from which the others follow
        differences = ["model"]
    told = "; ".join(_difference(name, before.get(name), now[name]) for name in differences)
    cures = [match for name in differences if (match := _option_for(name, before.get(name), now[name]))]
    match = f"{' and '.join(cures)}, or " if len(cures) == len(differences) else ""
    raise UsageError(f"{option}: {rows} was made {told}: {match}{cure}")


def describe_part(name: str, value: object) -> str:
    """A part of a fingerprint, as the end of a sentence."""
    if value is None or value is False:
        return f"without {name}"
    return f"with {name}" if value is True else f"with {name} {value}"


def is_digest(name: str) -> bool:
    """Whether this part of a fingerprint is a digest, which says nothing to people."""
    return name in _FILES


def _difference(name: str, value: object, now: object) -> str:
    """What rows were made with or without, as `describe_part` says it, and what this run makes them with."""
    if is_digest(name):
        return f"with other {name}" if value and now else describe_part(name, bool(value))
    was = describe_part(name, value)
    return was if value is None or now is None or isinstance(value, bool) else f"{was}, not {now}"


def _option_for(name: str, value: object, now: object) -> str | None:
    """What to write on the command line so that this part is as it was."""
    if name in _FLAGS:
        return f"add --{name}" if value else f"leave out --{name}"
    if name in _FILES:
        return f"name the same --{name} file as then" if value else f"leave out --{name}"
    if name == "revision" and not (isinstance(value, str) and len(value) == _COMMIT):
        return None
    if name == "format" and value == "excel":
        return "add --excel-safe"
    if name == "format" and now == "excel":
        return f"add --format {value} and leave out --excel-safe"
    if name in _VALUES:
        return f"add --{name} {value}" if value is not None else f"leave out --{name}"
    return None
