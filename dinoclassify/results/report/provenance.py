"""The run metadata of ``RESULTS.meta.json``, as names and texts for people."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_FASTEST = 1e9  # images a second; more is implausible

Facts = list[tuple[str, str]]  # names and values


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the rows: one line for the header, titled parts with all facts, and the speed."""

    line: str
    parts: list[tuple[str, Facts]]
    images_per_second: float | None


def provenance(meta: Mapping[str, object]) -> Provenance:
    """The facts in run metadata. Missing entries are left out, because older versions did not write all of them."""
    model = _mapping(meta, "model")
    speed = meta.get("images_per_second")
    parts = {
        "Run": {
            "created": _moment(meta),
            "seconds": meta.get("seconds"),
            "images per second": speed,
            "rows kept of earlier runs": meta.get("kept") or None,
        },
        "Model": {
            "model": model.get("name"),
            **{name: model.get(name) for name in ("revision", "labels", "multi_label")},
            **{name: meta.get(name) for name in ("device", "precision", "runtime")},
            "preprocessing": model.get("preprocessing"),
        },
        "Versions": _mapping(meta, "versions"),
        "Options": _mapping(meta, "options"),
    }
    headline = (model.get("name"), meta.get("device"), meta.get("precision"), _moment(meta))
    return Provenance(
        line=" · ".join(_text(value) for value in headline if value is not None),
        parts=[(title, facts) for title, part in parts.items() if (facts := list(_facts(part)))],
        images_per_second=speed if isinstance(speed, int | float) and 0 <= speed < _FASTEST else None,
    )


def _mapping(meta: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = meta.get(name)
    return value if isinstance(value, dict) else {}


def _moment(meta: Mapping[str, object]) -> str | None:
    """The time of the run, to the minute; None if it is missing or invalid."""
    created = meta.get("created")
    try:
        return datetime.fromisoformat(str(created)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return None


def _facts(part: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Names and texts, without options at their defaults: null, false, ``auto`` or an empty list."""
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
            return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
        case _:
            return json.dumps(value)
