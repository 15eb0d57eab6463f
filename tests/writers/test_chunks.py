"""The chunks of a run in which other processes make the rows of a folder."""

from contextlib import closing

import pytest

from dinoclassify.errors import OutputError
from dinoclassify.types.prediction import Failure
from dinoclassify.types.run_options import hand_over, whole_batches
from dinoclassify.types.source import ByteRange, SequentialContainer, Source
from dinoclassify.writers.chunks import Piece, chunk_size, read_chunk, write_rows
from dinoclassify.writers.manifest import read_manifest
from tests.helpers.output_folders import JSONL, open_folder, plan_chunks, row_of, rows_in, write_chunks

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.fixture(autouse=True)
def _small_hand_overs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks as small as a batch, so that few images make many."""
    monkeypatch.setattr("dinoclassify.writers.chunks.whole_batches", lambda batch_size: batch_size)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20, 64, 1000])
def test_chunks_are_whole_hand_overs_and_batches(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.writers.chunks.whole_batches", whole_batches)
    size = chunk_size(batch_size)
    assert size % batch_size == 0
    assert batch_size == 1 or size % hand_over(batch_size) == 0


@pytest.mark.parametrize(
    ("batch_size", "images"),
    [(1, 8), (3, 6), (8, 8), (22, 22), (37, 37), (60, 6), (64, 8), (256, 8), (514, 2), (1009, 1)],
)
def test_a_large_batch_is_handed_over_in_small_parts(batch_size: int, images: int) -> None:
    assert hand_over(batch_size) == images


def test_chunks_are_whole_batches_and_a_stream_is_a_chunk_of_its_own(folder: str, images: list[str]) -> None:
    sources = [Source(path) for path in images]

    def sizes(sources: list[Source], batch_size: int) -> list[int]:
        return [len(chunk.sources) for chunk in plan_chunks(folder, batch_size=batch_size).chunks(sources, print)]

    stream = Source("a.tar", SequentialContainer())
    chunks = list(plan_chunks(folder).chunks([sources[0], stream, *sources[1:5]], print))
    assert [list(chunk.sources) for chunk in chunks] == [sources[:1], [stream], sources[1:5]]
    assert sizes(sources, 3) == [3, 3, 3, 1]
    assert sizes(sources, 8) == [8, 2]


def test_the_sources_of_a_chunk_are_read_as_they_were_written(folder: str) -> None:
    sources = [
        Source("a\udcff.jpg", signature=(1, 2), position=7),
        Source("a.zip!b", ByteRange("a.zip", 1, 2, 3, "deflated", 4)),
        Source("gone", Failure("vanished", "is gone")),
        Source("a.tar", SequentialContainer(column="image"), signature=(None, None)),
    ]
    plan = plan_chunks(folder)
    chunks = list(plan.chunks(sources, print))
    assert [source for chunk in chunks for source in read_chunk(plan.work, chunk.name).sources] == sources


def test_chunks_have_the_names_that_earlier_versions_gave_them(folder: str) -> None:
    """Else a run that is resumed after an upgrade reads whole archives again."""
    sources = [
        Source("gone.tar.gz", SequentialContainer()),
        Source("gone.zip!b", ByteRange("gone.zip", 1, 2, 3, "deflated", 4)),
    ]
    stream, chunk = plan_chunks(folder).chunks(sources, print)
    assert stream.name == "stream-0ee4b7dc81b5d0f9"
    assert chunk.name == "000000001-2df754459fb8ca9f"


def test_rows_of_chunks_are_in_the_order_of_the_inputs(folder: str, images: list[str]) -> None:
    with closing(open_folder(folder)) as output:
        plan = plan_chunks(folder)
        chunks = list(plan.chunks(output.pending(map(Source, images), lambda *_: None), print))
        write_chunks(plan, reversed(chunks))
        write_chunks(plan, chunks[1:2])  # again, as when the process that did it has died
        output.finish(output.unmatched(), {}, plan.rows())
    assert rows_in(folder) == [(path, "fish") for path in images]


def test_a_resumed_run_plans_only_the_chunks_without_rows(folder: str, images: list[str]) -> None:
    output, plan = open_folder(folder), plan_chunks(folder)
    chunks = list(plan.chunks(output.pending(map(Source, images), lambda *_: None), print))
    write_chunks(plan, chunks[1:2])
    with closing(open_folder(folder, resume=True)) as again:
        plan = plan_chunks(folder)
        chunks = list(plan.chunks(again.pending(map(Source, images), lambda *_: None), print))
        paths = [source.path for chunk in chunks for source in chunk.sources]
        assert paths == images[:4] + images[8:]
        write_chunks(plan, chunks, lambda path: row_of(path, "bird"))
        again.finish(again.unmatched(), {}, plan.rows())
    assert rows_in(folder) == [(path, "fish" if path in images[4:8] else "bird") for path in images]


def test_a_run_with_missing_rows_cannot_finish(folder: str, images: list[str]) -> None:
    output, plan = open_folder(folder), plan_chunks(folder)
    pending = plan.chunks(output.pending(map(Source, images), lambda *_: None), print)
    chunks = [next(pending)]
    with pytest.raises(RuntimeError, match="not planned"):
        output.finish(output.unmatched(), {}, plan.rows())
    chunks += pending
    write_chunks(plan, chunks[1:])
    with pytest.raises(OutputError, match="lacks rows"):
        output.finish(output.unmatched(), {}, plan.rows())
    plan.add(write_rows(plan.work, Piece(chunks[0].name, 0, last=True), JSONL.lines, [row_of(images[0])]).file)
    with pytest.raises(OutputError, match="has 1 row of 4 inputs"):
        output.finish(output.unmatched(), {}, plan.rows())
    assert read_manifest(folder) is None
