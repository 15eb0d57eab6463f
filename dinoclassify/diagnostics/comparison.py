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
    """One figure in both reports. ``ratio`` is new to old, and None unless both are above 0."""

    name: str
    unit: str
    old: float
    new: float
    ratio: float | None


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
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"cannot read the report {path}: it needs what dinoclassify bench --json prints") from error


def compare(earlier: Earlier, report: Mapping[str, object]) -> Comparison:
    """Compare a new report, as JSON has it, with an earlier one."""
    new = _parse("", report)
    return Comparison(
        against=earlier.path,
        figures=[_change(key, earlier.figures[key], new.figures[key]) for key in new.figures if key in earlier.figures],
        only_old=_shown(key for key in earlier.figures if key not in new.figures),
        only_new=_shown(key for key in new.figures if key not in earlier.figures),
        notes=list(_differences(earlier.conditions, new.conditions)),
    )


def _change(key: Key, old: float, new: float) -> Change:
    return Change(*key, old, new, round(new / old, 3) if old > 0 and new > 0 else None)


def _parse(path: str, report: object) -> Earlier:
    """The figures in a report as JSON has it; raises an error unless it is one of ours."""
    content = _mapping(report)
    conditions = _mapping(content["conditions"])
    _mapping(conditions["versions"])
    return Earlier(path, dict(_figures(content)), conditions)


def _figures(content: Mapping[str, object]) -> Iterator[tuple[Key, float]]:
    for figure in _list(content["figures"]):
        yield (str(figure["name"]), "images/s"), _number(figure["median"])
    for start in _list(content.get("starts") or []):  # a run that was stopped lacks these and the core time
        for name, unit in _OF_START.items():
            yield (f"start of {start['name']}, {start['cache']}", unit), _number(start[name])
    for name, value in _mapping(content.get("core_ms") or {}).items():
        yield (f"core time, {name.replace('_', ' ')}", "ms/image"), _number(value)


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """What differs, one sentence for each thing."""
    for name in new:
        if name == "versions":
            yield from _versions(_mapping(old[name]), _mapping(new[name]))
        elif old.get(name) != new[name]:
            yield f"{_WORDS.get(name, f'the {name}')} differs: {old.get(name)}, now {new[name]}"
    if any(old.get(name) != new.get(name) for name in _OF_MACHINE):
        yield "the machines, or what they were allowed, differ: the ratios say nothing about the versions"


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
