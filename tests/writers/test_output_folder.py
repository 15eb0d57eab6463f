"""Folders of rows in parts, on a disk and in a store. What all outputs have in common is in `test_output`."""

import os
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.writers.chunks import Piece, write_rows
from dinoclassify.writers.manifest import part_files, read_manifest
from tests.helpers.output_folders import (
    JSONL,
    MADE_WITH,
    label_all,
    names_in,
    open_folder,
    plan_chunks,
    row_of,
    rows_in,
)

pytestmark = pytest.mark.usefixtures("small_parts")


def exists(folder: str) -> bool:
    filesystem, path = fsspec.url_to_fs(folder)
    return bool(filesystem.exists(path))


def test_a_run_leaves_parts_in_the_order_of_the_inputs_and_a_manifest_that_names_them(
    folder: str, images: list[str]
) -> None:
    label_all(folder, images)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert [part["rows"] for part in manifest["parts"]] == [5, 5]
    assert manifest["made_with"] == MADE_WITH
    assert manifest["counts"] == {"ok": 10}
    assert rows_in(folder) == [(path, "fish") for path in images]
    assert names_in(folder) == sorted(["_manifest.json", *(part["name"] for part in manifest["parts"])])
    assert not exists(OutputPaths(folder).journal)


@pytest.mark.parametrize("name", ["csv", "tsv", "csv.gz", "jsonl.gz", "parquet"])
def test_parts_are_files_of_their_format(folder: str, images: list[str], name: str) -> None:
    label_all(folder, images, name)
    assert len(part_files(folder)) == 2
    assert all(file.endswith(f".{name}") for file in part_files(folder))
    changes: list[str] = []
    with closing(open_folder(folder, name, resume=True)) as output:
        assert list(output.pending(map(Source, images), lambda _, change, __: changes.append(change))) == []
    assert changes == ["kept"] * 10


def test_parts_cannot_be_sqlite(folder: str) -> None:
    with pytest.raises(UsageError, match="not in sqlite"):
        open_folder(folder, "sqlite")


def test_the_finished_folder_stays_as_it_was_until_the_end_of_the_run(folder: str, images: list[str]) -> None:
    label_all(folder, images[:3])
    before = names_in(folder), rows_in(folder)
    with closing(open_folder(folder)) as output:
        for source in output.pending(map(Source, images), lambda *_: None):
            output.write(row_of(source.path))
        assert (names_in(folder), rows_in(folder)) == before
        output.finish(output.unmatched(), {})
    assert rows_in(folder) == [(path, "fish") for path in images]


def test_the_old_folder_is_not_lost_where_folders_cannot_be_exchanged(
    tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "labels")
    label_all(folder, images[:3], name="old")
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
            label_all(folder, images, resume=True)
    assert not os.path.exists(folder)
    label_all(folder, images, resume=True)
    assert rows_in(folder) == [(path, "old" if path in images[:3] else "fish") for path in images]


def test_a_folder_with_other_files_is_refused(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    label_all(str(folder), images)  # an empty one is welcome
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt, which dinoclassify did not write"):
        open_folder(str(folder))
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_images_is_refused_as_an_output(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "in4"
    folder.mkdir()
    (folder / "x.JPG").touch()
    (folder / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"in4 is a folder of images: name a file, such as -o labels\.csv$"):
        open_folder(str(folder))


def test_a_folder_with_a_ds_store_file_is_accepted(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    for images_so_far in (images[:2], images, images):
        (folder / ".DS_Store").write_text("where icons are")
        label_all(str(folder), images_so_far, resume=True)
    assert [path for path, _ in rows_in(str(folder))] == images


def test_the_message_about_a_damaged_manifest_names_the_cure(tmp_path: Path, images: list[str]) -> None:
    label_all(str(tmp_path / "labels"), images)
    (tmp_path / "labels" / "_manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"_manifest.json \(it lacks .*\): restore it, or choose another folder"):
        open_folder(str(tmp_path / "labels"), fresh=True)


def test_a_journal_folder_with_other_files_is_refused(tmp_path: Path, images: list[str]) -> None:
    work = tmp_path / "labels.partial"
    work.mkdir()
    (work / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"labels\.partial has notes\.txt, which dinoclassify did not write"):
        open_folder(str(tmp_path / "labels"), fresh=True)
    assert (work / "notes.txt").read_text() == "mine"


def test_a_file_that_appears_in_the_folder_during_the_run_is_not_removed(tmp_path: Path, images: list[str]) -> None:
    folder = tmp_path / "labels"
    label_all(str(folder), images)
    with closing(open_folder(str(folder))) as output:
        list(map(output.write, map(row_of, images)))
        (folder / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            output.finish(output.unmatched(), {})
    assert (folder / "notes.txt").read_text() == "mine"


def test_parts_of_another_program_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "part-00000.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="which dinoclassify did not write"):
        open_folder(str(folder))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        open_folder(str(tmp_path / "labels"))


def test_parts_that_cannot_be_read_are_refused(tmp_path: Path, images: list[str]) -> None:
    folder = str(tmp_path / "labels")
    label_all(folder, images)
    Path(part_files(folder)[1]).write_bytes(b"{}\n")
    with pytest.raises(
        UsageError, match=r"labels has rows that cannot be read .*: start over with --fresh instead of --resume"
    ):
        open_folder(folder, resume=True)
    os.unlink(part_files(folder)[1])
    with pytest.raises(UsageError, match="labels cannot be read: No such file"):
        open_folder(folder, resume=True)
    Path(folder, "_manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"cannot read .*_manifest\.json"):
        open_folder(folder)


def test_a_folder_without_a_manifest_has_no_parts(tmp_path: Path) -> None:
    assert read_manifest(str(tmp_path)) is None
    with pytest.raises(UsageError, match=r"it has no _manifest\.json"):
        part_files(str(tmp_path))


def test_new_rows_of_a_stream_replace_its_earlier_rows(folder: str, images: list[str]) -> None:
    members = [f"{images[1]}!{number}" for number in range(3)]
    label_all(folder, [images[0], *members, images[2]], name="old")
    inputs = [Source(images[0]), Source(images[1], SequentialContainer()), Source(images[2])]
    for name in ("4 pieces", "2 pieces"):
        with closing(open_folder(folder, resume=True)) as output:
            plan = plan_chunks(folder)
            (chunk,) = plan.chunks(output.pending(inputs, lambda *_: None), print)
            last = int(name[0])
            for number in range(last):
                made = [row_of(f"{images[1]}!{number}", name)]
                piece = Piece(chunk.name, number, last=number == last - 1)
                plan.add(write_rows(plan.work, piece, JSONL.lines, made).file)
            output.finish(output.unmatched(plan.stream_paths()), {}, plan.rows())
        new = [(f"{images[1]}!{number}", name) for number in range(last)]
        stay = [(f"{images[1]}!{number}", "4 pieces") for number in range(last, 4)]
        assert rows_in(folder) == [*stay, (images[0], "old"), *new, (images[2], "old")]
