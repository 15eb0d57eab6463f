"""Files of rows: complete or not there."""

import json
import os
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest

from dinoclassify.results.reader import read_meta
from dinoclassify.storage.atomic import replacing
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.stream import stream_rows
from tests.helpers.prediction_files import FORMAT_NAMES, ROWS, write_rows


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_the_file_appears_as_a_whole_at_the_end(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    output = OutputFile(str(path), open_format(format_name, 2), batch_size=8)
    with closing(output.journal):
        output.journal.begin({})
        output.journal.append(ROWS[0])
        assert path.read_text() == "old"
        assert (tmp_path / "out.partial").read_bytes().endswith(b"\n")
        output.journal.append(ROWS[1])
        output.publish(None, {"seconds": 1})
    assert path.read_bytes() != b"old"
    assert sorted(os.listdir(tmp_path)) == ["out", "out.meta.json"]
    assert json.loads((tmp_path / "out.meta.json").read_text())["seconds"] == 1


@pytest.mark.parametrize("made", ["parquet", "sqlite"])
def test_parquet_and_sqlite_carry_the_metadata_of_the_run(tmp_path: Path, made: str) -> None:
    path = tmp_path / "rows"
    write_rows(path, made)
    said = json.loads((tmp_path / "rows.meta.json").read_text())
    assert said["seconds"] == 1
    assert len(said.pop("published")) == 2, "the size and time of the file, which it cannot say itself"
    (tmp_path / "rows.meta.json").unlink()
    assert read_meta(str(path)) == said
    assert OutputFile(str(path), open_format(made, 2), batch_size=8).finished_meta() == said, "--resume goes on with it"
    stream_rows(str(tmp_path / "plain"), open_format("parquet", 2), ROWS)
    assert read_meta(str(tmp_path / "plain")) == {}


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="/dev/shm is not there")
def test_a_file_in_dev_shm_is_a_file_like_any_other() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(2):
            write_rows(Path(folder) / "out.csv", "csv")
        assert (Path(folder) / "out.csv").read_text().count("path,status") == 1
        assert sorted(os.listdir(folder)) == ["out.csv", "out.csv.meta.json"]


def test_writing_to_a_symbolic_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write_rows(tmp_path / "link.csv", "csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,")


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with suppress(ZeroDivisionError), replacing(str(tmp_path / "out")) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_journal_is_cut_back_to_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the other images are in the same batches, with the same rounding, as without the interruption."""
    monkeypatch.chdir(tmp_path)
    predictions = [Prediction(f"{number}.jpg", "ok", (Label("x", 0, 0.5),)) for number in range(6)]
    output = OutputFile("out.csv", open_format("csv", 1), batch_size=4)
    with closing(output.journal):
        output.journal.begin({})
        for prediction in predictions:
            output.journal.append(prediction)
    output = OutputFile("out.csv", open_format("csv", 1), batch_size=4)
    with closing(output.journal):
        output.journal.resume()
        assert list(output.journal.rows()) == predictions[:4]
    assert Path("out.csv.partial").read_bytes().count(b"\n") == 5
