"""Runs that write folders of parts, here and in chunks as processes on other machines do."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import fsspec

from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import Source
from dinoclassify.writers.chunks import Chunk, ChunkPlan, Piece, chunk_size, read_chunk, write_rows
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.manifest import part_files
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_folder import OutputFolder

MADE_WITH = {"model": "m"}
JSONL = open_format("jsonl", 1)


def open_folder(folder: str, format_name: str = "jsonl", **options: Any) -> Output[Prediction]:
    row_format = open_format(format_name, 1)
    place = OutputFolder(folder, row_format, batch_size=2)
    return Output.open(place, row_format.lines, MADE_WITH, UpdateOptions(**options))


def row_of(path: str, label: str = "fish", *, failed: bool = False) -> Prediction:
    status = os.stat(path) if os.path.exists(path) else None
    size, mtime_ns = (status.st_size, status.st_mtime_ns) if status is not None else (None, None)
    if failed:
        return Prediction(path, "failed", failure=Failure("timeout", "late"), size=size, mtime_ns=mtime_ns)
    return Prediction(path, "ok", (Label(label, 1, 0.5),), size=size, mtime_ns=mtime_ns)


def label_all(folder: str, paths: list[str], format_name: str = "jsonl", name: str = "fish", **options: Any) -> None:
    """A whole run that labels all images ``name``."""
    with closing(open_folder(folder, format_name, **options)) as output:
        for source in output.pending(map(Source, paths), lambda *_: None):
            output.write(row_of(source.path, name))
        output.finish(output.unmatched(), {"counts": {"ok": len(paths)}})


def plan_chunks(folder: str, *, batch_size: int = 2, retry_failed: bool = False) -> ChunkPlan[Prediction]:
    return ChunkPlan(OutputPaths(folder).journal, JSONL.lines, chunk_size(batch_size), retry_failed=retry_failed)


def write_chunks(
    plan: ChunkPlan[Prediction], chunks: Iterable[Chunk], make: Callable[[str], Prediction] = row_of
) -> None:
    """Write the rows of chunks as processes on other machines do."""
    for chunk in chunks:
        made = [make(source.path) for source in read_chunk(plan.work, chunk.name).sources]
        plan.add(write_rows(plan.work, Piece(chunk.name, 0, last=True), JSONL.lines, made).file)


def rows_in(folder: str) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for name in part_files(folder):
        with fsspec.open(name, "rb") as file:
            found += [(item["path"], item["label"]) for item in map(json.loads, file)]
    return found


def names_in(folder: str) -> list[str]:
    filesystem, path = fsspec.url_to_fs(folder)
    return sorted(name.rpartition("/")[2] for name in filesystem.ls(path, detail=False))
