"""Folders of rows in parts: on a disk, and in a store."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dinoclassify.chunks import Chunk, Piece, read_chunk, write_rows
from dinoclassify.earlier import EarlierRow
from dinoclassify.parts import OutputFolder, part_files, read_manifest, work_of

from dinoclassify import chunks as chunks_of
from dinoclassify import parts
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.rows import Failure, Label, Prediction
from dinoclassify.sources import Source, Span, Stream
from dinoclassify.writers import open_format

MADE_WITH = {"model": "m"}
JSONL = open_format("jsonl", 1)

Kept = list[tuple[str, str]]


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a folder that is not there yet."""
    if request.param == "disk":
        yield str(tmp_path / "labels")
        return
    import fsspec

    root = f"memory://{uuid4().hex}"
    yield f"{root}/labels"
    store = fsspec.filesystem("memory")
    if store.exists(root):
        store.rm(root, recursive=True)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_of, "CHUNK", 4)
    monkeypatch.setattr(parts, "PART", 5)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Ten files."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(10)]
    for path in paths:
        Path(path).write_bytes(b"x")
    return paths


def opened(folder: str, **options: Any) -> OutputFolder[Prediction]:
    given: dict[str, Any] = {"row_format": JSONL, "made_with": MADE_WITH, "batch_size": 2} | options
    return OutputFolder(folder, **given)


def plan(output: OutputFolder[Prediction], paths: list[str]) -> tuple[list[Chunk], Kept]:
    kept: Kept = []

    def keep(source: Source, row: EarlierRow) -> None:
        kept.append((source.path, row.status))

    return list(output.plan(map(Source, paths), keep)), kept


def row(path: str, label: str = "fish", *, failed: bool = False) -> Prediction:
    status = os.stat(path) if os.path.exists(path) else None
    size, mtime_ns = (status.st_size, status.st_mtime_ns) if status is not None else (None, None)
    if failed:
        return Prediction(path, "failed", failure=Failure("timeout", "late"), size=size, mtime_ns=mtime_ns)
    return Prediction(path, "ok", (Label(label, 1, 0.5),), size=size, mtime_ns=mtime_ns)


def answer(output: OutputFolder[Prediction], chunks: list[Chunk], make: Callable[[str], Prediction] = row) -> None:
    for chunk in chunks:
        made = [make(source.path) for source in read_chunk(output.work, chunk.name)]
        write_rows(output.work, Piece(chunk.name, 0, last=True), JSONL.lines, made)


def label(folder: str, paths: list[str], make: Callable[[str], Prediction] = row, **options: Any) -> Kept:
    """A whole run; gives what it kept."""
    output = opened(folder, **options)
    chunks, kept = plan(output, paths)
    answer(output, chunks, make)
    output.finish({"counts": {"ok": len(paths)}})
    return kept


def rows_of(folder: str) -> list[tuple[str, str | None]]:
    import fsspec

    found: list[tuple[str, str | None]] = []
    for name in part_files(folder):
        with fsspec.open(name, "rb") as file:
            found += [(item["path"], item["label"]) for item in map(json.loads, file)]
    return found


def names_in(folder: str) -> list[str]:
    import fsspec

    filesystem, path = fsspec.url_to_fs(folder)
    return sorted(name.rpartition("/")[2] for name in filesystem.ls(path, detail=False))


def exists(folder: str) -> bool:
    import fsspec

    filesystem, path = fsspec.url_to_fs(folder)
    return bool(filesystem.exists(path))


def test_a_run_leaves_parts_in_the_order_of_the_inputs_and_a_manifest_that_names_them(
    folder: str, pictures: list[str]
) -> None:
    label(folder, pictures)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert [part["rows"] for part in manifest["parts"]] == [5, 5]
    assert manifest["made_with"] == MADE_WITH
    assert manifest["counts"] == {"ok": 10}
    assert rows_of(folder) == [(path, "fish") for path in pictures]
    assert names_in(folder) == sorted(["_manifest.json", *(part["name"] for part in manifest["parts"])])
    assert not exists(work_of(folder))


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_parts_are_files_of_their_format(folder: str, pictures: list[str], name: str) -> None:
    made = open_format(name, 1)
    output = opened(folder, row_format=made)
    chunks, _ = plan(output, pictures)
    for chunk in chunks:
        rows = [row(source.path) for source in read_chunk(output.work, chunk.name)]
        write_rows(output.work, Piece(chunk.name, 0, last=True), made.lines, rows)
    output.finish({})
    assert len(part_files(folder)) == 2
    assert all(file.endswith(f".{name}") for file in part_files(folder))
    assert plan(opened(folder, row_format=made, resume=True), pictures) == ([], [(path, "ok") for path in pictures])


def test_sqlite_is_no_format_of_parts(folder: str) -> None:
    with pytest.raises(UsageError, match="not in sqlite"):
        opened(folder, row_format=open_format("sqlite", 1))


def test_chunks_are_whole_batches_and_a_stream_is_one_by_itself(folder: str, pictures: list[str]) -> None:
    sources = [Source(path) for path in pictures[:5]]
    sources.insert(1, Source("a.tar", Stream()))
    chunks = list(opened(folder, batch_size=2).plan(sources, lambda *_: None))
    assert [[source.path for source in chunk.sources] for chunk in chunks] == [
        pictures[:1],
        ["a.tar"],
        pictures[1:5],
    ]
    assert [len(chunk.sources) for chunk in plan(opened(folder, batch_size=3), pictures)[0]] == [3, 3, 3, 1]
    assert [len(chunk.sources) for chunk in plan(opened(folder, batch_size=8), pictures)[0]] == [8, 2]


def test_sources_come_back_as_they_were_written_down(folder: str) -> None:
    sources = [
        Source("a\udcff.jpg", signature=(1, 2), position=7),
        Source("a.zip!b", Span("a.zip", 1, 2, 3, "deflated", 4)),
        Source("gone", Failure("vanished", "is gone")),
        Source("a.tar", Stream(column="image"), signature=(None, None)),
    ]
    output = opened(folder)
    chunks = list(output.plan(sources, lambda *_: None))
    assert [source for chunk in chunks for source in read_chunk(output.work, chunk.name)] == sources


def test_a_killed_run_goes_on_with_the_chunks_that_are_not_done(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    chunks, _ = plan(output, pictures)
    answer(output, chunks[:1])
    write_rows(output.work, Piece(chunks[1].name, 0, last=False), JSONL.lines, [row(pictures[4])])  # and not the rest
    again = opened(folder, resume=True)
    todo, kept = plan(again, pictures)
    assert [chunk.name for chunk in todo] == [chunk.name for chunk in chunks[1:]]
    assert kept == [(path, "ok") for path in pictures[:4]]
    answer(again, todo, lambda path: row(path, "bird"))
    with pytest.raises(RuntimeError, match="not planned"):
        opened(folder, resume=True).finish({})
    again.finish({})
    assert rows_of(folder) == [(path, "fish" if path in pictures[:4] else "bird") for path in pictures]


def test_a_run_that_lacks_rows_is_not_finished(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    chunks, _ = plan(output, pictures)
    answer(output, chunks[1:])
    with pytest.raises(OutputError, match="lacks rows"):
        output.finish({})
    write_rows(output.work, Piece(chunks[0].name, 0, last=True), JSONL.lines, [row(pictures[0])])
    with pytest.raises(OutputError, match="has 1 rows of 4 inputs"):
        output.finish({})
    assert read_manifest(folder) is None


def test_writing_a_piece_twice_is_writing_it_once(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    chunks, _ = plan(output, pictures)
    answer(output, chunks)
    answer(output, chunks)
    output.finish({})
    assert rows_of(folder) == [(path, "fish") for path in pictures]


def test_a_chunk_with_a_file_that_has_changed_is_done_again(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    answer(output, plan(output, pictures)[0])
    Path(pictures[5]).write_bytes(b"changed")
    again = opened(folder, resume=True)
    todo, kept = plan(again, pictures)
    assert [[source.path for source in chunk.sources] for chunk in todo] == [pictures[4:8]]
    assert [path for path, _ in kept] == pictures[:4] + pictures[8:]


def test_a_chunk_in_which_a_picture_failed_is_done_again_on_demand(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    answer(output, plan(output, pictures)[0], lambda path: row(path, failed=path == pictures[9]))
    assert plan(opened(folder, resume=True), pictures)[0] == []
    todo, _ = plan(opened(folder, resume=True, retry_failed=True), pictures)
    assert [[source.path for source in chunk.sources] for chunk in todo] == [pictures[8:]]


def test_without_resume_a_killed_run_is_nothing(folder: str, pictures: list[str]) -> None:
    output = opened(folder)
    answer(output, plan(output, pictures)[0])
    assert len(plan(opened(folder), pictures)[0]) == 3


def test_the_rows_of_a_stream_come_in_pieces_and_are_kept_whole(folder: str, pictures: list[str]) -> None:
    def sources() -> Iterator[Source]:
        yield Source(pictures[0])
        yield Source(pictures[1], Stream())
        yield Source(pictures[2])

    def label_all(output: OutputFolder[Prediction], chunks: list[Chunk]) -> None:
        for chunk in chunks:
            (source,) = chunk.sources
            if source.content is None:
                answer(output, [chunk])
            else:
                pieces = [[row(f"{source.path}!{n}")] for n in range(3)]
                for number in (2, 0, 1):
                    write_rows(output.work, Piece(chunk.name, number, last=number == 2), JSONL.lines, pieces[number])

    output = opened(folder)
    label_all(output, list(output.plan(sources(), lambda *_: None)))
    kept: list[str] = []
    again = opened(folder, resume=True)
    assert list(again.plan(sources(), lambda source, _: kept.append(source.path))) == []
    members = [f"{pictures[1]}!{number}" for number in range(3)]
    assert kept == [pictures[0], *members, pictures[2]]
    again.finish({})
    assert [path for path, _ in rows_of(folder)] == kept
    finished = opened(folder, resume=True)
    chunks = list(finished.plan(sources(), lambda *_: None))
    assert [chunk.sources[0].path for chunk in chunks] == [pictures[1]]  # it is read again, and no row stands twice
    label_all(finished, chunks)
    finished.finish({})
    assert [path for path, _ in rows_of(folder)] == kept


def test_a_finished_folder_gets_the_rows_of_new_and_changed_inputs(folder: str, pictures: list[str]) -> None:
    label(folder, pictures[:6])
    Path(pictures[3]).write_bytes(b"changed")
    kept = label(folder, pictures[2:8], lambda path: row(path, "bird"), resume=True)
    assert [path for path, _ in kept] == [pictures[2], *pictures[4:6]]
    new = {pictures[3], *pictures[6:8]}
    assert rows_of(folder) == [(path, "bird" if path in new else "fish") for path in pictures[:8]]


def test_rows_that_failed_are_made_again_on_demand_and_those_of_files_that_are_gone_dropped(
    folder: str, pictures: list[str]
) -> None:
    label(folder, pictures, lambda path: row(path, failed=path == pictures[5]))
    os.unlink(pictures[9])
    label(folder, pictures[:9], resume=True, retry_failed=True, prune=True)
    assert rows_of(folder) == [(path, "fish") for path in pictures[:9]]


def test_a_killed_run_that_added_to_a_finished_folder_goes_on_adding(folder: str, pictures: list[str]) -> None:
    label(folder, pictures[:3])
    output = opened(folder, resume=True)
    answer(output, plan(output, pictures)[0][:1])
    again = opened(folder, resume=True)
    todo, kept = plan(again, pictures)
    assert [path for path, _ in kept] == pictures[:7]
    answer(again, todo)
    again.finish({})
    assert rows_of(folder) == [(path, "fish") for path in pictures]


def test_a_killed_run_that_replaced_a_finished_folder_goes_on_replacing(folder: str, pictures: list[str]) -> None:
    label(folder, pictures[:3])
    output = opened(folder)
    answer(output, plan(output, pictures[4:])[0][:1])
    label(folder, pictures[4:], resume=True)
    assert [path for path, _ in rows_of(folder)] == pictures[4:]


def test_until_the_end_the_finished_folder_is_as_it_was(folder: str, pictures: list[str]) -> None:
    label(folder, pictures[:3])
    before = names_in(folder), rows_of(folder)
    output = opened(folder)
    chunks, _ = plan(output, pictures)
    answer(output, chunks)
    assert (names_in(folder), rows_of(folder)) == before
    output.finish({})
    assert rows_of(folder) == [(path, "fish") for path in pictures]


@pytest.mark.parametrize("step", ["_write_parts", "_take_name", "_clean"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_a_run_that_is_killed_at_its_end_can_be_taken_up_again(
    folder: str, pictures: list[str], step: str, after: bool, adds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    label(folder, pictures[:3], lambda path: row(path, "old"))
    output = opened(folder, resume=adds)
    answer(output, plan(output, pictures)[0])
    real = getattr(OutputFolder, step)

    def kill(*arguments: Any) -> Any:
        if after:
            made = real(*arguments)
            list(made or ())  # parts are written as they are asked for
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, step, kill)
        try:
            output.finish({})
        except Killed:
            pass
        else:
            assert step == "_take_name"  # a store has no such step
            assert folder.startswith("memory://")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert len(rows_of(folder)) in {3, 10}  # never half of one
    label(folder, pictures, resume=True)
    assert rows_of(folder) == [(path, "old" if adds and path in pictures[:3] else "fish") for path in pictures]
    assert not exists(work_of(folder))
    assert len(names_in(folder)) == 3


def test_where_names_cannot_be_exchanged_the_old_folder_is_not_lost(
    tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "labels")
    label(folder, pictures[:3], lambda path: row(path, "old"))
    monkeypatch.setattr(parts, "exchange", lambda *_: False)
    real, renamed = os.rename, list[str]()

    def rename(one: str, other: str) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(other)
        real(one, other)

    output = opened(folder, resume=True)
    answer(output, plan(output, pictures)[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            output.finish({})
    assert not os.path.exists(folder)
    label(folder, pictures, resume=True)
    assert rows_of(folder) == [(path, "old" if path in pictures[:3] else "fish") for path in pictures]


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path, pictures: list[str]) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    label(str(folder), pictures)  # an empty one is welcome
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt, which no run wrote"):
        opened(str(folder))
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_somebody_puts_there_meanwhile_is_not_removed(tmp_path: Path, pictures: list[str]) -> None:
    folder = tmp_path / "labels"
    label(str(folder), pictures)
    output = opened(str(folder))
    answer(output, plan(output, pictures)[0])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        output.finish({})
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


def test_rows_of_another_model_are_refused(folder: str, pictures: list[str]) -> None:
    label(folder, pictures)
    with pytest.raises(UsageError, match="labels was made with model m, not other: run without it"):
        opened(folder, made_with={"model": "other"}, resume=True)
    plan(opened(folder), pictures)
    with pytest.raises(UsageError, match="partial was made with model m, not other"):
        opened(folder, made_with={"model": "other"}, resume=True)
    opened(folder, made_with={"model": "other"})


def test_parts_that_cannot_be_read_are_refused(tmp_path: Path, pictures: list[str]) -> None:
    folder = str(tmp_path / "labels")
    label(folder, pictures)
    Path(part_files(folder)[1]).write_bytes(b"{}\n")
    with pytest.raises(UsageError, match=r"part-00001\.jsonl cannot be read"):
        opened(folder, resume=True)
    Path(folder, "_manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"cannot read .*_manifest\.json"):
        opened(folder)


def test_a_folder_without_a_manifest_has_no_parts(tmp_path: Path) -> None:
    assert read_manifest(str(tmp_path)) is None
    with pytest.raises(UsageError, match=r"it has no _manifest\.json"):
        part_files(str(tmp_path))
