"""Files of rows that are parts of one: which are meant, what is said of each, and whether they go together.

A run with ``--shard`` sees all inputs, and writes down in its meta, under ``shard``, where those of its shard stand
among them. Other files of rows can be parts too; then nobody knows whether any is missing.
"""

import glob
import heapq
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dinoclassify.discovery.filters import Shard
from dinoclassify.discovery.location import is_glob
from dinoclassify.discovery.shard_positions import unpacked
from dinoclassify.errors import UsageError
from dinoclassify.results.reader import read_meta
from dinoclassify.storage.missing import why_missing, why_saved_again
from dinoclassify.storage.remote.url import is_url
from dinoclassify.writers.fingerprint import describe_part, is_digest

log = logging.getLogger(__name__)

META = ".meta.json"
_PARTIAL = ".partial"
_AGAIN = "make the parts again, or --allow-gaps merges them as they are"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of rows, or a folder of such, and what is said of it."""

    name: str
    meta: Mapping[str, Any]

    @property
    def made_with(self) -> dict[str, Any]:
        """Whatever the rows depend on, by name."""
        return dict(self.meta["made_with"])

    @property
    def kept_before(self) -> int | None:
        """How many rows stand above those that have positions; None for all of them."""
        return None


@dataclass(frozen=True, slots=True)
class ShardPart(Part):
    """One that is of a shard of all inputs, of which there were so many.

    At its top are ``kept`` rows of inputs that the run was not given. Then there is one row for each of ``positions``:
    where its inputs stand among all, see `discovery.shard_positions`.
    """

    shard: Shard
    inputs: int
    kept: int
    positions: str

    @property
    def kept_before(self) -> int:
        """See `Part`."""
        return self.kept

    def unpacked(self) -> Iterator[int]:
        """The positions.

        Raises:
            UsageError: they cannot be read.
        """
        try:
            yield from unpacked(self.positions)
        except ValueError as error:
            raise _unclear(self.name) from error


def find_parts(names: Iterable[str]) -> list[str]:
    """The parts that are meant: the matches of a glob and what is in a folder that is no part itself, by name.

    Files that only say something of others are left out, as a shell's ``part-*`` names them too.

    Raises:
        UsageError: there are none.
    """
    found: list[str] = []
    for name in names:
        if is_glob(name) and not is_url(name) and not os.path.lexists(name):
            found += _some(sorted(glob.glob(name, recursive=True)), f"nothing matches {name}: check the pattern")
        elif os.path.isdir(name) and not read_meta(name):
            cure = f"name files of rows, as predict {name} -o labels.csv writes them"
            found += _some(_parts_in(name), f"{name} has no rows that predict wrote: {cure}")
        else:
            found.append(name)
    return [name for name in found if not name.endswith(META)]


def read_parts(names: Iterable[str], *, allow_gaps: bool, allow_duplicates: bool) -> list[Part]:
    """The parts, if they go together.

    Args:
        names: their files or folders.
        allow_gaps: let parts be missing, or be of inputs that are not the same.
        allow_duplicates: let a shard be there twice.

    Raises:
        UsageError: they do not go together, are not finished, or nothing can be read of what made them.
    """
    parts = list(map(_read_part, names))
    _check_made_with(parts)
    shards = [part for part in parts if isinstance(part, ShardPart)]
    if shards:
        if len(shards) < len(parts):
            raise UsageError(f"{shards[0].name} is shard {shards[0].shard}, other parts are of none: merge one kind")
        _check_shards(shards, allow_gaps=allow_gaps, allow_duplicates=allow_duplicates)
    return parts


def left_of(name: str) -> list[str]:
    """What a run that has not come to its end has left beside its output."""
    path = os.path.realpath(name) + _PARTIAL
    return [left for left in (path, path + META) if os.path.exists(left)]


def refuse_or_warn(trouble: str, cure: str, *, allowed: bool) -> None:
    """Refuse what is wrong, or say it where it is allowed.

    Raises:
        UsageError: it is not.
    """
    if not allowed:
        raise UsageError(f"{trouble}: {cure}")
    log.warning("%s", trouble)


def _some(found: list[str], otherwise: str) -> list[str]:
    if not found:
        raise UsageError(otherwise)
    return found


def _parts_in(folder: str) -> list[str]:
    """The files of a folder beside which stands what made them, be they finished or not."""
    made = {entry.removesuffix(META).removesuffix(_PARTIAL) for entry in os.listdir(folder) if entry.endswith(META)}
    return [os.path.join(folder, entry) for entry in sorted(made)]


def _read_part(name: str) -> Part:
    finished = name.rstrip("/").removesuffix(_PARTIAL)
    if finished != name.rstrip("/") or left_of(finished):
        raise UsageError(f"{finished} is not finished: go on with it by predict --resume first")
    if not is_url(name) and not os.path.exists(name):
        raise UsageError(f"{name} {why_missing(name)}")
    if (why := why_saved_again(name)) is not None:
        raise UsageError(f"another program has saved {name}, {why}: merge takes it as predict wrote it")
    meta = read_meta(name)
    if not isinstance(made_with := meta.get("made_with"), dict):
        raise UsageError(f"there is no {finished}{META} that says what made {name}: merge takes what predict wrote")
    if not isinstance(made_with.get("top-k"), int):
        raise UsageError(f"{name} has features, which embed wrote: merge takes what predict wrote")
    if (said := meta.get("shard")) is not None:
        return _read_shard(name, meta, said)
    options = meta.get("options")
    if isinstance(options, dict) and options.get("shard") and not options.get("watch"):
        raise UsageError(f"{name} is shard {options['shard']}, but of an older version, which wrote no positions down")
    return Part(name, meta)


def _read_shard(name: str, meta: Mapping[str, Any], said: Any) -> ShardPart:
    try:
        index, count, inputs, kept = (int(said[key]) for key in ("index", "count", "inputs", "kept_before"))
        if not 1 <= index <= count or min(inputs, kept) < 0:
            raise ValueError("there is no such shard")
        return ShardPart(name, meta, Shard(index, count), inputs, kept, str(said["positions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _unclear(name) from error


def _unclear(name: str) -> UsageError:
    return UsageError(f"{name}{META} does not say where the rows of {name} belong: make it again")


def _check_made_with(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for name in first.made_with | part.made_with:
            one, other = first.made_with.get(name), part.made_with.get(name)
            if one != other and name != "format":
                told = f"{first.name} was made {describe_part(name, one)}, {part.name} {describe_part(name, other)}"
                if is_digest(name) and one and other:
                    told = f"{first.name} and {part.name} were made with different {name}"
                raise UsageError(f"{told}: merge what is made alike")


def _check_shards(parts: Sequence[ShardPart], *, allow_gaps: bool, allow_duplicates: bool) -> None:
    """Find out whether these are all shards of the same inputs, each once."""
    first = parts[0]
    count = first.shard.count
    by_index: dict[int, ShardPart] = {}
    for part in parts:
        index = part.shard.index
        if part.shard.count != count:
            raise UsageError(f"{first.name} is shard {first.shard}, {part.name} is {part.shard}: merge those of one N")
        if index in by_index:
            trouble = f"{by_index[index].name} and {part.name} are both shard {part.shard}"
            refuse_or_warn(trouble, "leave one out, or --allow-duplicates takes the last", allowed=allow_duplicates)
        by_index[index] = part
    missing = [index for index in range(1, count + 1) if index not in by_index]
    if missing:
        more = f", and {len(missing) - 1:,} more" if missing[1:] else ""
        trouble = f"part {missing[0]} of {count} is missing{more}"
        refuse_or_warn(trouble, "name all, or --allow-gaps merges what there is", allowed=allow_gaps)
    other = next((part for part in parts if part.inputs != first.inputs), None)
    if other is not None:
        numbers = f"{first.name} is of {first.inputs:,}, {other.name} of {other.inputs:,}"
        refuse_or_warn(f"the inputs changed between the parts: {numbers}", _AGAIN, allowed=allow_gaps)
    if not allow_gaps:
        _check_positions(by_index.values())


def _check_positions(parts: Collection[ShardPart]) -> None:
    """Find out whether each input is in one shard."""
    inputs = next(iter(parts)).inputs
    missing = twice = following = 0
    for position in heapq.merge(*(part.unpacked() for part in parts)):
        missing += max(0, position - following)
        twice += position < following
        following = max(following, position + 1)
    missing += max(0, inputs - following)
    if missing or twice:
        numbers = f"of {inputs:,} {missing:,} are in no part, {twice:,} in two"
        raise UsageError(f"the inputs changed between the parts, or --limit left some out ({numbers}): {_AGAIN}")
