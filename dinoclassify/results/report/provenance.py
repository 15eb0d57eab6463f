"""What ``RESULTS.meta.json`` tells of a run, as names and texts for people."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_FASTEST = 1e9  # images a second: what is more is not to be believed

Facts = list[tuple[str, str]]  # a name and what it is, of each


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the rows: a line of it, all of it in parts with a title each, and how fast it was."""

    line: str
    parts: list[tuple[str, Facts]]
    images_per_second: float | None


def provenance(meta: Mapping[str, object]) -> Provenance:
    """What is told of the run: whatever there is, and nothing is missed that an older version has not written."""
    model = _mapping(meta, "model")
    speed = meta.get("images_per_second")
    run = {
        "created": _moment(meta),
        "seconds": meta.get("seconds"),
        "images per second": speed,
        "rows kept of earlier runs": meta.get("kept") or None,
    }
    made_by = {
        "model": model.get("name"),
        "revision": model.get("revision"),
        "labels": model.get("labels"),
        "device": meta.get("device"),
        "precision": meta.get("precision"),
        "runtime": meta.get("runtime"),
        "preprocessing": model.get("preprocessing"),
    }
    parts = {
        "Run": run,
        "Model": made_by,
        "Versions": _mapping(meta, "versions"),
        "Options": _mapping(meta, "options"),
    }
    first = (model.get("name"), meta.get("device"), meta.get("precision"), _moment(meta))
    return Provenance(
        line=" · ".join(_text(one) for one in first if one is not None),
        parts=[(title, facts) for title, part in parts.items() if (facts := list(_facts(part)))],
        images_per_second=speed if isinstance(speed, int | float) and 0 <= speed < _FASTEST else None,
    )


def _mapping(meta: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = meta.get(name)
    return found if isinstance(found, dict) else {}


def _moment(meta: Mapping[str, object]) -> str | None:
    """When it was made, to the minute."""
    created = meta.get("created")
    try:
        return datetime.fromisoformat(str(created)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return None


def _facts(part: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Those that say something: an option that was left alone is null, false, auto or an empty list."""
    for name, value in part.items():
        if value is not None and value is not False and value not in ("auto", []):
            yield name.replace("_", " "), _text(value)


def _text(value: object) -> str:
    match value:
        case True:
            return "yes"
        case str():
            return value
        case list():
            return " ".join(map(_text, value))
        case dict():
            return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
        case _:
            return json.dumps(value)
