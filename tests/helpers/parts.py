"""Files of rows as runs and shards leave them, to be merged."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dinoclassify.discovery.filters import Shard
from dinoclassify.discovery.shard_positions import PackedPositions
from dinoclassify.errors import UsageError
from dinoclassify.results.merge.merge import merge
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.fingerprint import write_meta
from dinoclassify.writers.formats import open_format

FORMATS = ["csv", "tsv", "excel", "jsonl", "csv.gz", "jsonl.gz", "parquet", "sqlite"]


MADE_WITH = {"model": "m", "revision": "1", "labels": "2 of sha256 0", "groups": None, "top-k": 2, "threshold": 0.0}


def packed(positions: Sequence[int]) -> str:
    some = PackedPositions()
    for position in positions:
        some.add(position)
    return some.packed()


def cat_row(path: str, label: str = "cat") -> Prediction:
    return Prediction(path, "ok", (Label(label, 1, 0.75), Label("dog", 0, 0.25)), size=1, mtime_ns=2)


def write(path: Path, rows: Sequence[Prediction], format_name: str = "jsonl") -> None:
    """A file of rows, and nothing else."""
    row_format = open_format(format_name, 2)
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        row_format.write(file, rows, {})


def write_part(
    path: Path,
    rows: Sequence[Prediction],
    shard: Mapping[str, object] | None = None,
    format_name: str = "jsonl",
    **made_with: object,
) -> Path:
    """A file of rows, as a run leaves it."""
    write(path, rows, format_name)
    meta: dict[str, object] = {"made_with": {**MADE_WITH, "format": format_name, **made_with}}
    write_meta(f"{path}.meta.json", meta | ({"shard": shard} if shard is not None else {}))
    return path


def write_shard(
    folder: Path,
    rows: Sequence[Prediction],
    shard: Shard,
    format_name: str = "jsonl",
    *,
    kept: Sequence[Prediction] = (),
    **made_with: object,
) -> Path:
    """What a run leaves that takes of all ``rows`` those of a shard, and has ``kept`` others."""
    mine = [(position, row) for position, row in enumerate(rows) if row.path in shard]
    said = {
        "index": shard.index,
        "count": shard.count,
        "inputs": len(rows),
        "kept_before": len(kept),
        "positions": packed([position for position, _ in mine]),
    }
    path = folder / f"part-{shard.index:02}.{format_name}"
    return write_part(path, [*kept, *(row for _, row in mine)], said, format_name, **made_with)


def write_shards(folder: Path, rows: Sequence[Prediction], count: int, format_name: str = "jsonl") -> list[str]:
    return [str(write_shard(folder, rows, Shard(index, count), format_name)) for index in range(1, count + 1)]


def paths_in(path: Path) -> list[str]:
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def why_not(*parts: Path | str, out: Path | str = "out.jsonl", gaps: bool = False, duplicates: bool = False) -> str:
    """Why they are not merged."""
    with pytest.raises(UsageError) as raised:
        merge(list(map(str, parts)), str(out), "jsonl", allow_gaps=gaps, allow_duplicates=duplicates)
    assert not Path(out).exists()
    return str(raised.value)


TWENTY = [cat_row(f"{number}.jpg") for number in range(20)]
