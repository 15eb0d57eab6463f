"""The fingerprint of rows: what they depend on besides images. Runs may share an output if theirs are equal."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.atomic import as_output_errors, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.writers.formats import MAGIC, TABLES, open_format

START_OVER = "--fresh instead of --resume starts over"

_OTHER_FILE = "name another -o, or start over with --fresh instead of --resume"

# Parts of a fingerprint that the option of the same name sets.
_VALUES = {"model", "revision", "top-k", "threshold", "column", "dtype", "format", "runtime", "precision"}
_FLAGS = {"exact", "normalize"}
_FILES = {"labels", "groups"}  # the fingerprint has digests of their content
_COMMIT = 40  # digits of a revision on the Hub; other revisions are digests


def read_meta(path: str, rows: str, *, cure: str = START_OVER) -> dict[str, Any]:
    """Return the run metadata in ``path``; the message of an error names the file of ``rows`` and the ``cure``.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            meta: dict[str, Any] = json.load(file)
        dict(meta["made_with"])
    except FileNotFoundError as error:
        why = f"{OutputPaths(rows).meta} is missing, so nobody can tell which model made {rows}"
        raise UsageError(f"{why}: restore it, or {cure}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {OutputPaths(rows).meta}, which says what made {rows}: {cure}") from error
    return meta


def carried_meta(rows: str) -> dict[str, Any]:
    """Return the run metadata stored in a file of rows, as tables have them; empty if there are none."""
    meta: object = None
    with suppress(OSError, ValueError, RecursionError):
        with open(rows, "rb") as file:
            name = TABLES.get(file.read(MAGIC))
        if name is not None:
            meta = open_format(name, top_k=1).read_meta(rows)
    return meta if isinstance(meta, dict) and isinstance(meta.get("made_with"), dict) else {}


def write_meta(path: str, meta: Mapping[str, object], *, rights_of: str | None = None) -> None:
    """Write run metadata whole, or change nothing and raise OutputError. For ``rights_of`` see `replacing`."""
    with replacing(path, rights_of=rights_of) as file, as_output_errors(path):
        file.write(json.dumps(meta, indent=2, default=str).encode("utf-8") + b"\n")


def is_appended(meta: Mapping[str, object]) -> bool:
    """Whether rows were appended, as by ``--watch``: the last row of an image counts."""
    options = meta.get("options")
    return bool(meta.get("appended")) or (isinstance(options, dict) and bool(options.get("watch")))


def as_json(fingerprint: Mapping[str, object]) -> dict[str, object]:
    """Return a fingerprint as it would be read from a file."""
    content: dict[str, object] = json.loads(json.dumps(fingerprint))
    return content


def check_fingerprint(
    before: Mapping[str, object],
    rows: str,
    now: Mapping[str, object],
    *,
    option: str = "--resume",
    cure: str = _OTHER_FILE,
) -> None:
    """Check that rows with the fingerprints ``before`` and ``now`` may stand in one output.

    Raises:
        UsageError: the fingerprints differ. The message begins with the ``option`` that asks for the earlier ``rows``,
            and names the options that match these, and the ``cure``.
    """
    differences = [name for name in now if before.get(name) != now[name]]
    if not differences:
        return
    if "model" in differences:  # it explains the others
        differences = ["model"]
    why = "was made " + ", and ".join(_difference(name, before.get(name), now[name]) for name in differences)
    cures = [match for name in differences if (match := _option_for(name, before.get(name), now[name]))]
    if differences == ["top-k"] and isinstance(most := before.get("top-k"), int):
        why, cures = f"has {count_of(most, 'label')} a row, you ask for {now['top-k']}", [f"use -k {most}"]
    separator = ", " if ", or" in cure else ", or "
    match = f"{' and '.join(cures)}{separator}" if len(cures) == len(differences) else ""
    raise UsageError(f"{option}: {rows} {why}: {match}{cure} (dinoclassify guide resume)")


def describe_part(name: str, value: object) -> str:
    """Return a part of a fingerprint as the end of a sentence: "with --exact"."""
    shown = f"--{name}" if name in _VALUES | _FLAGS | _FILES else name
    if value is None or value is False:
        return f"without {shown}"
    return f"with {shown}" if value is True else f"with {shown} {value}"


def is_digest(name: str) -> bool:
    """Whether this part of a fingerprint is a digest, which means nothing to people."""
    return name in _FILES


def _difference(name: str, value: object, now: object) -> str:
    """Return how a part of the fingerprint of rows differs from that of this run, as the end of a sentence."""
    if is_digest(name):
        return f"with other --{name}" if value and now else describe_part(name, bool(value))
    if name == "revision" and not _is_commit(value):
        return "with other weights of the model"
    was = describe_part(name, value)
    return was if value is None or now is None or isinstance(value, bool) else f"{was}, not {now}"


def _option_for(name: str, value: object, now: object) -> str | None:
    """Return the change to the command line that restores this part; None if there is none."""
    if name in _FLAGS:
        return f"add --{name}" if value else f"leave out --{name}"
    if name in _FILES:
        return f"give the same --{name} file as before" if value else f"leave out --{name}"
    if name == "revision" and not _is_commit(value):
        return None
    if name == "format" and value == "excel":
        return "add --excel-safe"
    if name == "format" and now == "excel":
        return f"add --format {value} and leave out --excel-safe"
    if name in _VALUES:
        return f"add --{name} {value}" if value is not None else f"leave out --{name}"
    return None


def _is_commit(revision: object) -> bool:
    """Whether a revision is a commit on the Hub, and not a digest of the weights."""
    return isinstance(revision, str) and len(revision) == _COMMIT
