"""Whole runs that write outputs of every kind, without a model."""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from dinoclassify.results.reader import read_predictions
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import Source
from dinoclassify.writers import chunks
from dinoclassify.writers.formats import FORMATS, open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.target import Target, exclusive

KINDS = {
    "file.csv": "csv",
    "file.jsonl": "jsonl",
    "file.parquet": "parquet",
    "file.db": "sqlite",
    "file.tsv.gz": "tsv.gz",
    "folder/": "csv",
    "tables/": "parquet",
    "STORE/folder/": "jsonl",
    "STORE/object.csv": "csv",
    "STORE/object.parquet": "parquet",
}
FINGERPRINT = {"model": "m", "runtime": "openvino"}
PATHS = [f"{number}.jpg" for number in range(11)]
Changes = list[tuple[str, str]]


class DiskStore(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose objects are files, so that they outlive the process."""

    protocol = "diskstore"

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("diskstore://")

    def put_file(self, path: str, url: str, **_: Any) -> None:
        self.pipe_file(url, Path(path).read_bytes())  # at a stroke, as stores do


fsspec.register_implementation("diskstore", DiskStore, clobber=True)


def prepare_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # takes most of the time, and no kill can tell
    for path in PATHS:
        Path(path).write_bytes(b"x")


def in_store(kind: str) -> str:
    return kind.replace("STORE", f"diskstore://{os.getcwd()}/bucket")


def row(path: str, label: str = "fish") -> Prediction:
    """The row that a model would give a file: failed if the file has a ``?`` in it."""
    try:
        status, content = os.stat(path), Path(path).read_bytes()
    except FileNotFoundError:
        return Prediction(path, "failed", failure=Failure("vanished", "it is gone"))
    signature: Any = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if b"?" in content:
        return Prediction(path, "failed", failure=Failure("timeout", "late"), **signature)
    return Prediction(path, "ok", (Label(f"{label} {len(content)}", 1, 0.5),), **signature)


def write_output(
    output_name: str,
    paths: list[str],
    make: Callable[[str], Prediction] = row,
    *,
    fingerprint: dict[str, str] = FINGERPRINT,
    batch_size: int = 2,
    stop_after: int | None = None,
    **options: Any,
) -> Changes:
    """A whole run; returns what became of each input. A signal ends it after ``stop_after`` rows."""
    changes: Changes = []
    row_format = open_format(
        next(made for kind, made in KINDS.items() if output_name.endswith(kind.removeprefix("STORE"))), 1
    )
    update = UpdateOptions(**options)
    target = Target(output_name, FORMATS[0], in_parts=output_name.endswith("/"))
    file, kind = (output_name, OutputFolder) if target.in_parts else (target.local_file or output_name, OutputFile)
    with (
        exclusive(target, resume=update.resume, fresh=update.fresh),
        closing(
            Output.open(kind(file, row_format, batch_size=batch_size), row_format.lines, fingerprint, update)
        ) as output,
    ):
        for number, source in enumerate(
            output.pending(map(Source, paths), lambda source, change, _: changes.append((source.path, change)))
        ):
            if number == stop_after:
                raise KeyboardInterrupt
            output.write(make(source.path))
        output.finish(output.unmatched(), {"counts": {}})
    return changes


def interrupt(output_name: str, paths: list[str], stop_after: int, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_output(output_name, paths, stop_after=stop_after, **options)


def rows(output_name: str) -> list[Prediction]:
    return list(read_predictions(output_name))


def labels(output_name: str) -> dict[str, str | None]:
    return {row.path: row.label for row in rows(output_name)}


def content(output_name: str) -> object:
    """The bytes of an output; its rows if the bytes differ from run to run."""
    path = output_name.removeprefix("diskstore://")
    return Path(path).read_bytes() if os.path.isfile(path) and not path.endswith(".db") else rows(output_name)


def leftovers() -> list[str]:
    """The files that a finished run must not leave."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names]
    return [name for name in found if ".partial" in name or ".tmp" in name or "/outputs/" in name]


def change(path: str, text: str) -> None:
    Path(path).write_text(text)
    os.utime(path, (2, 2))


def prepare(output_name: str, *, update: bool, changes: bool = True) -> list[str]:
    """Make an output; returns the inputs of the next run: new, changed, failed, left out or removed."""
    if not update:
        return PATHS
    if not changes:
        write_output(output_name, PATHS)
        return PATHS
    change("3.jpg", "?")
    write_output(output_name, PATHS[:8], partial(row, label="old"))
    change("1.jpg", "changed")
    change("3.jpg", "mended")
    os.unlink("0.jpg")
    return [*PATHS[8:], *PATHS[1:6]]
