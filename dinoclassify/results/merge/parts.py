"""Files of rows to be merged: finding them, reading their metadata, and checking that they belong together.

A run with ``--shard`` records the positions of its inputs among all inputs, in its metadata under ``shard``. Other
files of rows can be parts too, but then a missing part is not noticed.
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
from dinoclassify.storage.output_paths import META, PARTIAL, OutputPaths
from dinoclassify.storage.remote.url import is_url
from dinoclassify.writers.fingerprint import describe_part

log = logging.getLogger(__name__)

_AGAIN = "make the parts again, or --allow-gaps merges them as they are"


@dataclass(frozen=True, slots=True)
class Part:
    """A file or folder of rows, and its metadata.

    unpositioned: the number of rows without a position, which come first; None if no row has a position.
    """

    name: str
    meta: Mapping[str, Any]
    unpositioned: int | None

    @property
    def made_with(self) -> dict[str, Any]:
        """The fingerprint of the rows."""
        return dict(self.meta["made_with"])


@dataclass(frozen=True, slots=True)
class ShardPart(Part):
    """The rows of one shard.

    inputs: the number of inputs of all shards together.
    positions: those of the shard's inputs among all inputs, packed by `discovery.shard_positions`. Each has a row,
        after the ``unpositioned`` rows that the run kept of other inputs.
    """

    shard: Shard
    inputs: int
    positions: str

    def unpack_positions(self) -> Iterator[int]:
        """The positions, ascending; raises UsageError if they are damaged."""
        try:
            yield from unpacked(self.positions)
        except ValueError as error:
            raise _shard_error(self.name) from error


def find_parts(names: Iterable[str]) -> list[str]:
    """The paths of the parts, with globs expanded, and folders replaced by the parts in them, sorted by name.

    A folder with a manifest is one part. Metadata files are dropped, because a shell's ``part-*`` matches them too.

    Raises:
        UsageError: a glob matches nothing, or a folder has no parts.
    """
    parts: list[str] = []
    for name in names:
        found, trouble = [name], ""
        if is_glob(name) and not is_url(name) and not os.path.lexists(name):
            found, trouble = sorted(glob.glob(name, recursive=True)), f"nothing matches {name}: check the pattern"
        elif os.path.isdir(name) and not read_meta(name):
            cure = f"name files of rows, as predict {name} -o labels.csv writes them"
            found, trouble = _parts_in(name), f"{name} has no rows that predict wrote: {cure}"
        if not found:
            raise UsageError(trouble)
        parts += found
    return [name for name in parts if not name.endswith(META)]


def read_parts(names: Iterable[str], *, allow_gaps: bool, allow_duplicates: bool) -> list[Part]:
    """Read the metadata of all parts, and check that they belong together.

    ``allow_gaps`` allows missing parts and parts that saw different inputs, ``allow_duplicates`` two of a shard.

    Raises:
        UsageError: they do not belong together, a part is not finished, or its metadata cannot be read.
    """
    parts = list(map(_read_part, names))
    _check_made_with(parts)
    shards = [part for part in parts if isinstance(part, ShardPart)]
    if shards:
        if len(shards) < len(parts):
            raise UsageError(f"{shards[0].name} is shard {shards[0].shard}, other parts are not shards: merge one kind")
        _check_shards(shards, allow_gaps=allow_gaps, allow_duplicates=allow_duplicates)
    return parts


def unfinished_files(name: str) -> list[str]:
    """The files that an unfinished run left beside its output."""
    paths = OutputPaths.resolved(name)
    return [file for file in (paths.journal, paths.journal_meta) if os.path.exists(file)]


def refuse_or_warn(trouble: str, cure: str, *, allowed: bool) -> None:
    """Log the trouble as a warning if it is ``allowed``; otherwise raise a UsageError with its cure."""
    if not allowed:
        raise UsageError(f"{trouble}: {cure}")
    log.warning("%s", trouble)


def _parts_in(folder: str) -> list[str]:
    """The outputs in a folder that have metadata beside them, finished or not."""
    names = {entry.removesuffix(META).removesuffix(PARTIAL) for entry in os.listdir(folder) if entry.endswith(META)}
    return [os.path.join(folder, name) for name in sorted(names)]


def _read_part(name: str) -> Part:
    finished = name.rstrip("/").removesuffix(PARTIAL)
    if finished != name.rstrip("/") or unfinished_files(finished):
        raise UsageError(f"{finished} is not finished: finish it with predict --resume first")
    if not is_url(name) and not os.path.exists(name):
        raise UsageError(f"{name} {why_missing(name)}")
    if (why := why_saved_again(name)) is not None:
        raise UsageError(f"another program, such as a spreadsheet, saved {name} ({why}): make it again with predict")
    meta = read_meta(name)
    if not isinstance(made_with := meta.get("made_with"), dict):
        meta_name = OutputPaths(finished).meta
        raise UsageError(
            f"{meta_name} is missing, so nobody can tell what made {name}: restore it, or run predict again"
        )
    if not isinstance(made_with.get("top-k"), int):
        raise UsageError(f"{name} has features, which embed wrote: merge takes what predict wrote")
    if (shard := meta.get("shard")) is not None:
        return _read_shard(name, meta, shard)
    options = meta.get("options")
    if isinstance(options, dict) and options.get("shard") and not options.get("watch"):
        trouble = f"{name} is shard {options['shard']}, but of an older version"
        raise UsageError(f"{trouble}, which did not record where its rows belong: make it again")
    return Part(name, meta, unpositioned=None)


def _read_shard(name: str, meta: Mapping[str, Any], shard: Any) -> ShardPart:
    try:
        index, count, inputs, unpositioned = (int(shard[key]) for key in ("index", "count", "inputs", "kept_before"))
        if not 1 <= index <= count or min(inputs, unpositioned) < 0:
            raise ValueError("there is no such shard")
        return ShardPart(name, meta, unpositioned, Shard(index, count), inputs, str(shard["positions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _shard_error(name) from error


def _shard_error(name: str) -> UsageError:
    return UsageError(f"{OutputPaths(name).meta} does not say where the rows of {name} belong: make it again")


def _check_made_with(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for name in first.made_with | part.made_with:
            value, other = first.made_with.get(name), part.made_with.get(name)
            if value != other and name != "format":
                made, otherwise = describe_part(name, value), describe_part(name, other, unlike=value)
                cure = "merge parts that were made with the same options"
                raise UsageError(f"{first.name} was made {made}, {part.name} {otherwise}: {cure}")


def _check_shards(parts: Sequence[ShardPart], *, allow_gaps: bool, allow_duplicates: bool) -> None:
    """Check that these are all shards of the same inputs, each once."""
    first = parts[0]
    count = first.shard.count
    by_index: dict[int, ShardPart] = {}
    for part in parts:
        index = part.shard.index
        if part.shard.count != count:
            raise UsageError(
                f"{first.name} is shard {first.shard}, {part.name} is {part.shard}: merge shards with the same count"
            )
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
        numbers = f"{first.name} counts {first.inputs:,}, {other.name} counts {other.inputs:,}"
        refuse_or_warn(f"the inputs changed between the parts: {numbers}", _AGAIN, allowed=allow_gaps)
    if not allow_gaps:
        _check_positions(by_index.values())


def _check_positions(parts: Collection[ShardPart]) -> None:
    """Check that each input is in exactly one shard."""
    inputs = next(iter(parts)).inputs
    missing = twice = expected = 0
    for position in heapq.merge(*(part.unpack_positions() for part in parts)):
        missing += max(0, position - expected)
        twice += position < expected
        expected = max(expected, position + 1)
    missing += max(0, inputs - expected)
    if missing or twice:
        numbers = f"of {inputs:,} {missing:,} are in no part, {twice:,} in two"
        raise UsageError(f"the inputs changed between the parts, or --limit left some out ({numbers}): {_AGAIN}")
