"""Two reports of `bench` side by side: how much each figure has changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from dinoclassify.errors import UsageError
from dinoclassify.storage.missing import why_unread

_OF_MACHINE = ("device", "processors", "processor")
_OF_START = {"seconds": "s", "core_seconds": "core s", "megabytes": "MB"}
_WORDS = {
    "images": "the number of images",
    "image_bytes": "the size of the images",
    "workers": "the number of workers",
    "processors": "the number of processors",
}

Key = tuple[str, str]  # the name of a figure, and its unit


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier report: its file, its figures, and what they depend on."""

    path: str
    figures: Mapping[Key, float]
    conditions: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both reports; ``ratio`` is new to old."""

    name: str
    unit: str
    old: float
    new: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of both reports, and what else has changed."""

    against: str
    figures: list[Change]
    only_old: list[str]
    only_new: list[str]
    notes: list[str]

    def lines(self) -> list[str]:
        """The comparison without its figures, as text."""
        only = [(f"only in {self.against}", self.only_old), ("only in this run", self.only_new)]
        return [*(f"{where}: {'; '.join(names)}" for where, names in only if names), *self.notes]

    def as_json(self) -> dict[str, object]:
        """The comparison as JSON has it."""
        return asdict(self)


def read_report(path: str) -> Earlier:
    """Read what ``bench --json`` has printed. Raises UsageError if it cannot be read, or is something else."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return _parse(path, json.load(file))
    except OSError as error:
        raise UsageError(why_unread("the report", path, error)) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"cannot read the report {path}: it needs what dinoclassify bench --json prints") from error


def compare(earlier: Earlier, report: Mapping[str, object]) -> Comparison:
    """Compare a new report, as JSON has it, with an earlier one."""
    new = _parse("", report)
    shared = [key for key in new.figures if key in earlier.figures]
    pairs = [(key, earlier.figures[key], new.figures[key]) for key in shared]
    return Comparison(
        against=earlier.path,
        figures=[Change(*key, old, value, round(value / old, 3)) for key, old, value in pairs if old > 0],
        only_old=_shown(key for key in earlier.figures if key not in new.figures),
        only_new=_shown(key for key in new.figures if key not in earlier.figures),
        notes=list(_differences(earlier.conditions, new.conditions)),
    )


def _parse(path: str, report: object) -> Earlier:
    """The figures in a report as JSON has it; raises an error unless it is one of ours."""
    content = _mapping(report)
    if "machine" not in content:
        raise ValueError("no report of bench")
    conditions = {"machine": content["machine"], **_mapping(content.get("conditions") or {})}
    return Earlier(path, dict(_figures(content)), conditions)


def _figures(content: Mapping[str, object]) -> Iterator[tuple[Key, float]]:
    for figure in _list(content["figures"]):
        yield (str(figure["name"]), "images/s"), _number(figure["median"])
    for start in _list(content.get("starts") or []):
        for name, unit in _OF_START.items():
            yield (f"start of {start['name']}, {start['cache']}", unit), _number(start[name])
    for name, value in _mapping(content.get("core_ms") or {}).items():
        yield (f"core time, {name.replace('_', ' ')}", "ms/image"), _number(value)


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """What differs, one sentence for each thing; the versions stand in `machine` for people only."""
    if old.keys() <= {"machine"}:
        if old.get("machine") != new.get("machine"):
            yield f"the machine or its versions differ: {old.get('machine')}; now {new.get('machine')}"
        yield "the earlier report does not say which model and images it measured"
        return
    for name in new:
        if name == "versions":
            yield from _versions(_mapping(old.get(name) or {}), _mapping(new[name]))
        elif name != "machine" and old.get(name) != new[name]:
            yield f"{_WORDS.get(name, f'the {name}')} differs: {old.get(name)}, now {new[name]}"
    if any(old.get(name) != new.get(name) for name in _OF_MACHINE):
        yield "these are two machines: the ratios say nothing about the versions"


def _versions(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if names:
        yield "versions differ: " + ", ".join(f"{name} {old.get(name)}, now {new.get(name)}" for name in names)


def _shown(keys: Iterator[Key]) -> list[str]:
    """The names of figures, each once, without their units."""
    return list(dict.fromkeys(name for name, _ in keys))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return value


def _list(value: object) -> Sequence[Mapping[str, object]]:
    if not isinstance(value, list):
        raise TypeError("not a JSON list")
    return [_mapping(item) for item in value]


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise TypeError("not a number")
    return float(value)
