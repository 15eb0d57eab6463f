"""The fingerprint of rows: what they depend on besides images. Runs may share an output if theirs are equal."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of, join_choices, join_words
from dinoclassify.storage.atomic import as_output_errors, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.writers.formats import MAGIC, TABLES, open_format

START_OVER = "start over with --fresh instead of --resume"

_FILES = {"labels", "groups"}  # the fingerprint has digests of their content
# Parts of a fingerprint that the option of the same name sets.
_OPTIONS = _FILES | {
    *("model", "revision", "top-k", "threshold", "column", "dtype", "format", "runtime", "precision"),
    *("exact", "normalize"),
}
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
    cures: Sequence[str] = ("name another -o", START_OVER),
) -> None:
    """Check that rows with the fingerprints ``before`` and ``now`` may stand in one output.

    Raises:
        UsageError: the fingerprints differ. The message begins with the ``option`` that asks for the earlier ``rows``,
            and names the options that match these, and the other ``cures``.
    """
    differences = [_Difference(name, before.get(name), now[name]) for name in now if before.get(name) != now[name]]
    if not differences:
        return
    model = [difference for difference in differences if difference.name == "model"]
    why, match = _describe(model or differences)  # another model explains the others
    choices = join_choices([*filter(None, [match]), *cures])
    raise UsageError(f"{option}: {rows} {why}: {choices} (dinoclassify guide resume)")


def describe_part(name: str, value: object, *, unlike: object = None) -> str:
    """Return a part of a fingerprint as the end of a sentence: "with --exact".

    Of a digest, which means nothing to people, only that there is one, or another than ``unlike``, is said.
    """
    shown = _shown(name, value)
    if value is None or value is False:
        return f"without {shown}"
    if _is_digest(name, value):
        return f"with other {shown}" if unlike else f"with {shown}"
    return f"with {shown}" if value is True else f"with {shown} {value}"


@dataclass(frozen=True, slots=True)
class _Difference:
    """A part of the fingerprint of rows, and what it is in this run."""

    name: str
    before: Any
    now: Any


def _describe(differences: Sequence[_Difference]) -> tuple[str, str]:
    """Return how rows differ from those of this run, and the change to the command line that restores it.

    The change is empty if no option restores a part.
    """
    first = differences[0]
    changes = list(map(_change, differences))
    if differences[1:]:
        names = ", ".join(_shown(difference.name, difference.before) for difference in differences)
        why, match = f"was made with other options ({names})", f"repeat them ({_in_words(changes, ', ')})"
    elif first.name == "top-k" and isinstance(first.before, int):
        why, match = f"has {count_of(first.before, 'label')} a row, you ask for {first.now}", f"use -k {first.before}"
    else:
        why, match = f"was made {_contrast(first)}", _in_words(changes, " and ")
    return why, match if all(map(any, changes)) else ""


def _contrast(difference: _Difference) -> str:
    """Return a difference as the end of a sentence: "with --threshold 0.0, not 0.3"."""
    before, now = difference.before, difference.now
    was = describe_part(difference.name, before, unlike=now)
    is_plain = before is None or now is None or isinstance(before, bool) or _is_digest(difference.name, before)
    return was if is_plain else f"{was}, not {now}"


def _change(difference: _Difference) -> tuple[str, str]:
    """Return the option to leave out and the one to use, so that a part is as it was; empty where there is none."""
    name, before, now = difference.name, difference.before, difference.now
    option = f"--{name}"
    if name == "format" and "excel" in (before, now):
        return ("", "--excel-safe") if before == "excel" else ("--excel-safe", f"--format {before}")
    if name not in _OPTIONS:
        return "", ""
    if before is None or before is False:
        return option, ""
    if name in _FILES:
        return "", f"the same {option} as before"
    if _is_digest(name, before):
        return "", ""
    return "", option if before is True else f"{option} {before}"


def _in_words(changes: Sequence[tuple[str, str]], separator: str) -> str:
    """Return changes to the command line: "leave out --groups, use --top-k 1 and --threshold 0.0"."""
    unwanted, wanted = ([option for option in options if option] for options in zip(*changes, strict=True))
    steps = [f"{verb} {join_words(options)}" for verb, options in (("leave out", unwanted), ("use", wanted)) if options]
    return separator.join(steps)


def _shown(name: str, value: object) -> str:
    """Return the name of a part of a fingerprint, as messages show it."""
    if name == "revision" and _is_digest(name, value):
        return "weights of the model"
    return f"--{name}" if name in _OPTIONS else name


def _is_digest(name: str, value: object) -> bool:
    """Whether a part of a fingerprint is a digest: of a file, or of the weights of a model without a revision."""
    is_commit = isinstance(value, str) and len(value) == _COMMIT
    return name in _FILES or (name == "revision" and value is not None and not is_commit)
