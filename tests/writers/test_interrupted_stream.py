"""A run over a stream that is interrupted after some pieces, and resumed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dinoclassify.results.reader import read_predictions
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.writers import chunks
from dinoclassify.writers.chunks import ChunkPlan, ChunkResult, Piece, write_rows
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_folder import OutputFolder

FOLDER, ARCHIVE = "labels/", "photos.tar"
FOLDER, ARCHIVE = "labels/", "photos.tar"
CSV = open_format("csv", 1)
SIZE = 4  # images in a piece


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "CHUNK", SIZE)


def label_stream(images: int, *, stop_after: int | None = None, resume: bool = False) -> int:
    """Label a stream of images; returns the number of pieces made. It is interrupted after ``stop_after`` pieces."""
    output = Output.open(OutputFolder(FOLDER, CSV, batch_size=2), CSV.lines, {"model": "m"}, UpdateOptions(resume))
    with closing(output):
        plan = ChunkPlan(OutputPaths(FOLDER).journal, CSV.lines, SIZE, retry_failed=False)
        made = 0
        for chunk in plan.chunks(
            output.pending([Source(ARCHIVE, SequentialContainer())], lambda *_: None), on_row=lambda _: None
        ):
            for result in make_pieces(chunk, images):
                if made == stop_after:
                    return made
                plan.add(result.file)
                made += 1
        output.finish(output.unmatched(plan.stream_paths()), {}, plan.rows())
    return made


def make_pieces(chunk: chunks.Chunk, images: int) -> Iterator[ChunkResult]:
    numbers = [number for number in range(-(-images // SIZE)) if number not in chunk.done]
    for number in numbers:
        made = [
            Prediction(path, "ok", (Label("fish", 1, 0.5),), size=1, mtime_ns=1)
            for path in member_paths(images)[number * SIZE : (number + 1) * SIZE]
        ]
        yield write_rows(OutputPaths(FOLDER).journal, Piece(chunk.name, number, number == numbers[-1]), CSV.lines, made)


def member_paths(images: int) -> list[str]:
    return [f"{ARCHIVE}::{number}.jpg" for number in range(images)]


@pytest.mark.parametrize("finished", [False, True])
def test_each_row_of_a_stream_is_written_once_after_an_interruption(finished: bool) -> None:
    """Also if a finished folder has its rows: each run reads a stream again."""
    if finished:
        assert label_stream(10) == 3
    assert label_stream(10, stop_after=2, resume=finished) == 2
    label_stream(10, resume=True)
    assert [row.path for row in read_predictions(FOLDER)] == member_paths(10)
