"""Folders of rows in parts, on a disk and in a store, and the chunks in which other processes make them.

What all outputs have in common is in `test_output`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import ByteRange, SequentialContainer, Source
from dinoclassify.writers import chunks as chunks_of
from dinoclassify.writers import output_folder
from dinoclassify.writers.chunks import Chunk, ChunkPlan, Piece, chunk_size, read_chunk, write_rows
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.manifest import part_files, read_manifest
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_folder import OutputFolder

MADE_WITH = {"model": "m"}
JSONL = open_format("jsonl", 1)


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a folder that is not there yet."""
    if request.param == "disk":
        yield str(tmp_path / "labels")
        return
    root = f"memory://{uuid4().hex}"
    yield f"{root}/labels"
    store = fsspec.filesystem("memory")
    if store.exists(root):
        store.rm(root, recursive=True)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_of, "CHUNK", 4)
    monkeypatch.setattr(output_folder, "PART", 5)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Ten files."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(10)]
    for path in paths:
        Path(path).write_bytes(b"x")
    return paths


def opened(folder: str, format_name: str = "jsonl", **options: Any) -> Output[Prediction]:
    row_format = open_format(format_name, 1)
    place = OutputFolder(folder, row_format, batch_size=2)
    return Output.open(place, row_format.lines, MADE_WITH, UpdateOptions(**options))


def row(path: str, label: str = "fish", *, failed: bool = False) -> Prediction:
    status = os.stat(path) if os.path.exists(path) else None
    size, mtime_ns = (status.st_size, status.st_mtime_ns) if status is not None else (None, None)
    if failed:
        return Prediction(path, "failed", failure=Failure("timeout", "late"), size=size, mtime_ns=mtime_ns)
    return Prediction(path, "ok", (Label(label, 1, 0.5),), size=size, mtime_ns=mtime_ns)


def label(folder: str, paths: list[str], format_name: str = "jsonl", name: str = "fish", **options: Any) -> None:
    """A whole run."""
    with closing(opened(folder, format_name, **options)) as output:
        for source in output.pending(map(Source, paths), lambda *_: None):
            output.write(row(source.path, name))
        output.finish(output.unnamed(), {"counts": {"ok": len(paths)}})


def planned(folder: str, *, batch_size: int = 2, retry_failed: bool = False) -> ChunkPlan[Prediction]:
    return ChunkPlan(OutputPaths(folder).journal, JSONL.lines, chunk_size(batch_size), retry_failed=retry_failed)


def answer(plan: ChunkPlan[Prediction], chunks: Iterable[Chunk], make: Callable[[str], Prediction] = row) -> None:
    """Make the rows of chunks as processes on other machines do."""
    for chunk in chunks:
        made = [make(source.path) for source in read_chunk(plan.work, chunk.name).sources]
        plan.add(write_rows(plan.work, Piece(chunk.name, 0, last=True), JSONL.lines, made).file)


def rows_of(folder: str) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for name in part_files(folder):
        with fsspec.open(name, "rb") as file:
            found += [(item["path"], item["label"]) for item in map(json.loads, file)]
    return found


def names_in(folder: str) -> list[str]:
    filesystem, path = fsspec.url_to_fs(folder)
    return sorted(name.rpartition("/")[2] for name in filesystem.ls(path, detail=False))


def exists(folder: str) -> bool:
    filesystem, path = fsspec.url_to_fs(folder)
    return bool(filesystem.exists(path))


def test_a_run_leaves_parts_in_the_order_of_the_inputs_and_a_manifest_that_names_them(
    folder: str, images: list[str]
) -> None:
    label(folder, images)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert [part["rows"] for part in manifest["parts"]] == [5, 5]
    assert manifest["made_with"] == MADE_WITH
    assert manifest["counts"] == {"ok": 10}
    assert rows_of(folder) == [(path, "fish") for path in images]
    assert names_in(folder) == sorted(["_manifest.json", *(part["name"] for part in manifest["parts"])])
    assert not exists(OutputPaths(folder).journal)


@pytest.mark.parametrize("name", ["csv", "tsv", "csv.gz", "jsonl.gz", "parquet"])
def test_parts_are_files_of_their_format(folder: str, images: list[str], name: str) -> None:
    label(folder, images, name)
    assert len(part_files(folder)) == 2
    assert all(file.endswith(f".{name}") for file in part_files(folder))
    changes: list[str] = []
    with closing(opened(folder, name, resume=True)) as output:
        assert list(output.pending(map(Source, images), lambda _, change, __: changes.append(change))) == []
    assert changes == ["kept"] * 10


def test_sqlite_is_no_format_of_parts(folder: str) -> None:
    with pytest.raises(UsageError, match="not in sqlite"):
        opened(folder, "sqlite")


def test_until_the_end_the_finished_folder_is_as_it_was(folder: str, images: list[str]) -> None:
    label(folder, images[:3])
    before = names_in(folder), rows_of(folder)
    with closing(opened(folder)) as output:
        for source in output.pending(map(Source, images), lambda *_: None):
            output.write(row(source.path))
        assert (names_in(folder), rows_of(folder)) == before
        output.finish(output.unnamed(), {})
    assert rows_of(folder) == [(path, "fish") for path in images]


def test_where_names_cannot_be_exchanged_the_old_folder_is_not_lost(
    tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "labels")
    label(folder, images[:3], name="old")
    monkeypatch.setattr("dinoclassify.storage.rename.exchange", lambda *_: False)
    real, renamed = os.rename, list[str]()

    def rename(one: str, other: str) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(other)
        real(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            label(folder, images, resume=True)
    assert not os.path.exists(folder)
    label(folder, images, resume=True)
    assert rows_of(folder) == [(path, "old" if path in images[:3] else "fish") for path in images]


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    label(str(folder), images)  # an empty one is welcome
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt, which no run wrote"):
        opened(str(folder))
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_a_desktop_has_shown_is_written_to(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    for images_so_far in (images[:2], images, images):
        (folder / ".DS_Store").write_text("where icons are")
        label(str(folder), images_so_far, resume=True)
    assert [path for path, _ in rows_of(str(folder))] == images


def test_a_damaged_manifest_is_named_with_the_cure(tmp_path: Path, images: list[str]) -> None:
    label(str(tmp_path / "labels"), images)
    (tmp_path / "labels" / "_manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"_manifest.json \(it lacks .*\): restore it, or choose another folder"):
        opened(str(tmp_path / "labels"), fresh=True)


def test_a_journal_with_something_else_in_it_is_refused(tmp_path: Path, images: list[str]) -> None:
    work = tmp_path / "labels.partial"
    work.mkdir()
    (work / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"labels\.partial has notes\.txt, which no run wrote"):
        opened(str(tmp_path / "labels"), fresh=True)
    assert (work / "notes.txt").read_text() == "mine"


def test_what_somebody_puts_there_meanwhile_is_not_removed(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    label(str(folder), images)
    with closing(opened(str(folder))) as output:
        list(map(output.write, map(row, images)))
        (folder / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            output.finish(output.unnamed(), {})
    assert (folder / "notes.txt").read_text() == "mine"


def test_parts_of_another_program_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "part-00000.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="which no run wrote"):
        opened(str(folder))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        opened(str(tmp_path / "labels"))


def test_parts_that_cannot_be_read_are_refused(tmp_path: Path, images: list[str]) -> None:
    folder = str(tmp_path / "labels")
    label(folder, images)
    Path(part_files(folder)[1]).write_bytes(b"{}\n")
    with pytest.raises(UsageError, match=r"labels has rows that cannot be read .*: --fresh instead of --resume"):
        opened(folder, resume=True)
    os.unlink(part_files(folder)[1])
    with pytest.raises(UsageError, match="labels cannot be read: No such file"):
        opened(folder, resume=True)
    Path(folder, "_manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"cannot read .*_manifest\.json"):
        opened(folder)


def test_a_folder_without_a_manifest_has_no_parts(tmp_path: Path) -> None:
    assert read_manifest(str(tmp_path)) is None
    with pytest.raises(UsageError, match=r"it has no _manifest\.json"):
        part_files(str(tmp_path))


def test_chunks_are_whole_batches_and_a_stream_is_one_by_itself(folder: str, images: list[str]) -> None:
    sources = [Source(path) for path in images]

    def sizes(sources: list[Source], batch_size: int) -> list[int]:
        return [len(chunk.sources) for chunk in planned(folder, batch_size=batch_size).chunks(sources, print)]

    stream = Source("a.tar", SequentialContainer())
    chunks = list(planned(folder).chunks([sources[0], stream, *sources[1:5]], print))
    assert [list(chunk.sources) for chunk in chunks] == [sources[:1], [stream], sources[1:5]]
    assert sizes(sources, 3) == [3, 3, 3, 1]
    assert sizes(sources, 8) == [8, 2]


def test_sources_come_back_as_they_were_written_down(folder: str) -> None:
    sources = [
        Source("a\udcff.jpg", signature=(1, 2), position=7),
        Source("a.zip!b", ByteRange("a.zip", 1, 2, 3, "deflated", 4)),
        Source("gone", Failure("vanished", "is gone")),
        Source("a.tar", SequentialContainer(column="image"), signature=(None, None)),
    ]
    plan = planned(folder)
    chunks = list(plan.chunks(sources, print))
    assert [source for chunk in chunks for source in read_chunk(plan.work, chunk.name).sources] == sources


def test_rows_of_chunks_are_those_of_the_inputs_in_order(folder: str, images: list[str]) -> None:
    with closing(opened(folder)) as output:
        plan = planned(folder)
        chunks = list(plan.chunks(output.pending(map(Source, images), lambda *_: None), print))
        answer(plan, reversed(chunks))
        answer(plan, chunks[1:2])  # again, as when the process that did it has died
        output.finish(output.unnamed(), {}, plan.rows())
    assert rows_of(folder) == [(path, "fish") for path in images]


def test_a_killed_run_goes_on_with_the_rows_that_are_not_made(folder: str, images: list[str]) -> None:
    output, plan = opened(folder), planned(folder)
    chunks = list(plan.chunks(output.pending(map(Source, images), lambda *_: None), print))
    answer(plan, chunks[1:2])
    with closing(opened(folder, resume=True)) as again:
        plan = planned(folder)
        chunks = list(plan.chunks(again.pending(map(Source, images), lambda *_: None), print))
        paths = [source.path for chunk in chunks for source in chunk.sources]
        assert paths == images[:4] + images[8:]
        answer(plan, chunks, lambda path: row(path, "bird"))
        again.finish(again.unnamed(), {}, plan.rows())
    assert rows_of(folder) == [(path, "fish" if path in images[4:8] else "bird") for path in images]


def test_a_run_that_lacks_rows_is_not_finished(folder: str, images: list[str]) -> None:
    output, plan = opened(folder), planned(folder)
    pending = plan.chunks(output.pending(map(Source, images), lambda *_: None), print)
    chunks = [next(pending)]
    with pytest.raises(RuntimeError, match="not planned"):
        output.finish(output.unnamed(), {}, plan.rows())
    chunks += pending
    answer(plan, chunks[1:])
    with pytest.raises(OutputError, match="lacks rows"):
        output.finish(output.unnamed(), {}, plan.rows())
    plan.add(write_rows(plan.work, Piece(chunks[0].name, 0, last=True), JSONL.lines, [row(images[0])]).file)
    with pytest.raises(OutputError, match="has 1 row of 4 inputs"):
        output.finish(output.unnamed(), {}, plan.rows())
    assert read_manifest(folder) is None


class Tar:
    """A stream of many images, read as machines of a cluster read it."""

    def __init__(self, folder: str, path: str, **options: bool) -> None:
        self.kept: list[str] = []
        self.plan = planned(folder, **options)
        self.chunks = list(
            self.plan.chunks([Source(path, SequentialContainer())], lambda row: self.kept.append(row.path))
        )
        self._path = path

    @property
    def done(self) -> tuple[int, ...]:
        """The pieces that need not be made again."""
        (chunk,) = self.chunks
        return read_chunk(self.plan.work, chunk.name).done

    def write(self, *numbers: int, last: int, failed: bool = False) -> None:
        """Write pieces of one row each."""
        (chunk,) = self.chunks
        for number in numbers:
            rows = [row(f"{self._path}!{number}", f"{last} pieces", failed=failed)]
            self.plan.add(write_rows(self.plan.work, Piece(chunk.name, number, last == number), JSONL.lines, rows).file)

    def rows(self) -> list[str]:
        """The numbers and labels of its rows."""
        (lines,) = self.plan.rows()
        made = map(JSONL.lines.parse, lines)
        return [f"{row.path.rpartition('!')[2]} of {row.label}" for row in made]


def test_the_rows_of_a_stream_come_in_pieces(folder: str, images: list[str]) -> None:
    tar = Tar(folder, images[1])
    tar.write(2, 0, 1, last=2)
    assert tar.rows() == ["0 of 2 pieces", "1 of 2 pieces", "2 of 2 pieces"]
    again = Tar(folder, images[1])
    assert again.chunks == []
    assert again.kept == [f"{images[1]}!{number}" for number in range(3)]
    assert again.rows() == tar.rows()


@pytest.mark.parametrize("pieces", [[], [0], [0, 1], [1], [0, 2], [1, 3]])
def test_pieces_of_a_stream_that_are_written_are_not_made_again(
    folder: str, images: list[str], pieces: list[int]
) -> None:
    Tar(folder, images[1]).write(*pieces, last=3)
    again = Tar(folder, images[1])
    done = [number for number in pieces if number != 3]  # which is the last one, somebody else may say
    assert again.done == tuple(done)
    assert again.kept == [f"{images[1]}!{number}" for number in done]
    again.write(*sorted({*range(5)} - {*done}), last=4)
    assert [made.split()[0] for made in again.rows()] == list("01234")


def test_a_stream_that_has_changed_is_read_anew(folder: str, images: list[str]) -> None:
    Tar(folder, images[1]).write(0, 1, 2, last=2)
    Path(images[1]).write_bytes(b"another")
    assert Tar(folder, images[1]).done == ()


def test_pieces_of_a_stream_in_which_an_image_failed_are_made_again_on_demand(folder: str, images: list[str]) -> None:
    tar = Tar(folder, images[1])
    tar.write(0, 1, 3, last=3)
    tar.write(2, last=3, failed=True)
    assert Tar(folder, images[1]).chunks == []
    assert Tar(folder, images[1], retry_failed=True).done == (0, 1)


@pytest.mark.parametrize("first", ["longer", "shorter"])
def test_of_two_readings_of_a_stream_the_longer_counts(
    folder: str, images: list[str], first: str, caplog: pytest.LogCaptureFixture
) -> None:
    tar = Tar(folder, images[1])
    readings = [((0, 1, 2, 3), 3), ((0, 1), 1)]
    for pieces, last in readings if first == "longer" else reversed(readings):
        tar.write(*pieces, last=last)
    made = ["0", "1", "2", "3"]
    assert [row.split()[0] for row in tar.rows()] == made
    assert caplog.messages == ["an archive or table was read twice, with different lengths: the longer reading is kept"]
    again = Tar(folder, images[1])
    assert again.chunks == []
    assert [row.split()[0] for row in again.rows()] == made


@pytest.mark.parametrize("longer", [(0, 1), (0, 1, 2), (0, 2)])
def test_a_shorter_reading_of_a_stream_does_not_count_where_the_longer_is_not_whole(
    folder: str, images: list[str], longer: tuple[int, ...]
) -> None:
    tar = Tar(folder, images[1])
    tar.write(*longer, last=3)
    tar.write(0, 1, last=1)
    with pytest.raises(OutputError, match=r"lacks rows that were written: .* --resume goes on"):
        tar.rows()
    again = Tar(folder, images[1])
    assert 1 not in again.done or 1 in longer
    again.write(*sorted({*range(4)} - {*again.done}), last=3)
    assert [row.split()[0] for row in again.rows()] == list("0123")


def test_the_same_stream_named_twice_is_read_twice(folder: str, images: list[str]) -> None:
    chunks = list(
        planned(folder).chunks(
            [Source(images[1], SequentialContainer()), Source(images[1], SequentialContainer())], print
        )
    )
    assert len({chunk.name for chunk in chunks}) == 2


def test_a_stream_takes_the_place_of_its_earlier_rows(folder: str, images: list[str]) -> None:
    members = [f"{images[1]}!{number}" for number in range(3)]
    label(folder, [images[0], *members, images[2]], name="old")
    inputs = [Source(images[0]), Source(images[1], SequentialContainer()), Source(images[2])]
    for name in ("4 pieces", "2 pieces"):
        with closing(opened(folder, resume=True)) as output:
            plan = planned(folder)
            (chunk,) = plan.chunks(output.pending(inputs, lambda *_: None), print)
            last = int(name[0])
            for number in range(last):
                made = [row(f"{images[1]}!{number}", name)]
                piece = Piece(chunk.name, number, last=number == last - 1)
                plan.add(write_rows(plan.work, piece, JSONL.lines, made).file)
            output.finish(output.unnamed(plan.stream_paths()), {}, plan.rows())
        new = [(f"{images[1]}!{number}", name) for number in range(last)]
        stay = [(f"{images[1]}!{number}", "4 pieces") for number in range(last, 4)]
        assert rows_of(folder) == [*stay, (images[0], "old"), *new, (images[2], "old")]


def test_rows_that_a_cluster_has_made_of_a_stream_are_kept_on_one_machine(folder: str, images: list[str]) -> None:
    opened(folder).close()
    Tar(folder, images[1]).write(0, 2, last=5)
    members = [f"{images[1]}!{number}" for number in range(4)]
    label(folder, members, name="bird", resume=True)
    labels = ["5 pieces", "bird", "5 pieces", "bird"]
    assert rows_of(folder) == list(zip(members, labels, strict=True))
