"""The inputs of `predict`: folders, globs, lists, and what becomes of those that are missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.commands import NAMES, Invoke, parse_rows
from tests.helpers.prepared import Program


def test_every_way_to_name_inputs(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("list.txt").write_text("photos/coffee.jpg\nphotos/rocket.jpg\n")
    Path("table.csv").write_text("n,file\n1,photos/camera.jpg\n")

    def paths(*arguments: str) -> list[str]:
        return [
            row["path"].removeprefix("photos/")
            for row in parse_rows(invoke("predict", "-m", tiny, "-q", *arguments)[1])
        ]

    assert paths("--files-from", "list.txt") == ["coffee.jpg", "rocket.jpg"]
    assert paths("--files-from", "table.csv", "--column", "file") == ["camera.jpg"]
    assert paths("photos", "--include", "c*", "--exclude", "*mera*") == ["chelsea.jpg", "coffee.jpg"]
    assert paths("photos", "--limit", "2") == NAMES[:2]
    assert sorted(paths("photos", "--shard", "1/2") + paths("photos", "--shard", "2/2")) == NAMES
    assert paths("photos/**/c*.jpg", "photos/rocket.jpg") == ["camera.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"]
    assert paths("--", "photos/rocket.jpg", "-odd.jpg") == ["rocket.jpg", "-odd.jpg"]


def test_a_list_on_stdin_may_be_separated_by_nul(
    here: Path, tiny: str, invoke: Invoke, stdin: Callable[[bytes], None]
) -> None:
    stdin(b"photos/coffee.jpg\0photos/gone\nwith newline.jpg\0photos/rocket.jpg\0")
    code, out, err = invoke("predict", "-0", "-", "-m", tiny, "-f", "jsonl", "-q")
    paths = [json.loads(line)["path"] for line in out.splitlines()]
    assert paths == ["photos/coffee.jpg", "photos/gone\nwith newline.jpg", "photos/rocket.jpg"]
    assert (code, err) == (3, "")


def test_a_program_can_ask_for_one_image_at_a_time(here: Path, tiny: str) -> None:
    command = [sys.executable, "-m", "dinoclassify", "predict", "-", "-m", tiny, "-f", "jsonl", "-q"]
    with Program(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("coffee.jpg", "text.png", "rocket.jpg"):
            print(f"photos/{name}", file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["path"] == f"photos/{name}"
        process.stdin.close()
        assert process.wait(timeout=200) == 3  # before its stdout is closed, which would end it with 0


def test_the_output_may_not_be_the_list_of_inputs_under_another_name(here: Path, invoke: Invoke) -> None:
    Path("list.txt").write_text("photos/coffee.jpg\n")
    code, _, err = invoke("predict", "--files-from", "list.txt", "-o", "./photos/../list.txt", "-f", "csv")
    assert (code, err) == (2, "dinoclassify: ./photos/../list.txt is also an input: choose another name\n")
    assert Path("list.txt").read_text() == "photos/coffee.jpg\n"


def contents() -> dict[str, bytes]:
    """All files in the current folder, with their content."""
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


@pytest.mark.parametrize("output", ["labels.csv", "labels.db", "labels/", "new.csv"])
@pytest.mark.parametrize("away", ["album", "album/", "'album/*.jpg'", "link"])
def test_a_missing_folder_ends_the_run_before_anything_is_changed(
    here: Path, tiny: str, invoke: Invoke, output: str, away: str
) -> None:
    """An unmounted disk must not cost the labels of yesterday."""
    shutil.copytree("photos", "album")
    Path("link").symlink_to("album")
    if output != "new.csv":
        assert invoke("predict", "photos", "album", "-m", tiny, "-o", output, "-q")[0] == 3
    shutil.rmtree("album")
    before = contents()
    for more in ([], ["--resume", "--prune"]):
        code, out, err = invoke("predict", "photos", away.strip("'"), "-m", tiny, "-o", output, *more)
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert re.search(
            "album,? (which )?is not there: check its name, or mount its disk", err.replace("album/ ", "album ")
        )
        assert contents() == before


def test_an_empty_folder_beside_others_is_fine(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("empty").mkdir()
    code, out, err = invoke("predict", "empty", "photos", "-m", tiny, "-q")
    assert (code, len(parse_rows(out)), err) == (3, 7, "")


def test_missing_files_and_members_of_archives_have_failed_rows(here: Path, tiny: str, invoke: Invoke) -> None:
    """Files named by their suffix, members of archives, and the entries of lists."""
    Path("list").write_text("gone\nfolder/\n")
    names = ["gone.JPG", "a.zip", "a.tar.gz", "a.zip!x", "b.zip!x.jpg", "t.parquet"]
    code, out, _ = invoke("predict", *names, "--files-from", "list", "-m", tiny)
    assert code == 3
    assert [(row["path"], row["error_code"]) for row in parse_rows(out)] == [
        (name, "vanished") for name in [*names, "gone", "folder/"]
    ]


def test_files_that_are_no_images_are_named_once_with_verbose(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("photos/raw").mkdir()
    Path("photos/raw/x.PSD").touch()
    Path("photos/.hidden.psd").touch()
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "-v", "--progress")[2]
    said = [line for line in re.split(r"[\r\n]", err) if "passed over: photos" in line]
    assert sorted(line[line.index("dino") :] for line in said) == [
        "dinoclassify: passed over: photos/SOURCES.md",
        "dinoclassify: passed over: photos/raw/x.PSD",
    ]
    assert "passed over: photos/" not in invoke("predict", "photos", "-m", tiny, "-o", "out.csv")[2]


def test_the_message_about_a_folder_without_images_says_what_is_in_it(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("drawings").mkdir()
    for name in ("a.psd", "b.psd", "c"):
        Path("drawings", name).touch()
    for output in ("labels.csv", "labels/", "-"):
        code, _, err = invoke("predict", "drawings", "-m", tiny, "-o", output)
        why = "drawings: no images; 3 passed over: 2 .psd, 1 without suffix; name a file to try it whatever its suffix"
        assert (code, err) == (4, f"dinoclassify: {why}\n")


def test_a_list_from_a_pipe_is_read_once(here: Path, tiny: str, invoke: Invoke) -> None:
    """The total of the progress bar would need a second look at the inputs, which a pipe does not allow."""
    reader, writer = os.pipe()
    os.write(writer, b"photos/coffee.jpg\n" * 500)
    os.close(writer)
    # As bash has it for <(cat list).
    assert invoke("predict", "--progress", "-m", tiny, "-o", "out.csv", "--files-from", f"/dev/fd/{reader}")[0] == 0
    os.close(reader)
    assert len(parse_rows(Path("out.csv").read_text())) == 500


def test_hidden_files_and_linked_folders_need_hidden_and_follow(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("more").mkdir()
    shutil.copy("photos/coffee.jpg", "more/.hidden.jpg")
    Path("photos/link").symlink_to(here / "more")
    common = ("predict", "photos", "-m", tiny, "-q", "--include", ".*")
    assert parse_rows(invoke(*common, "--hidden")[1]) == parse_rows(invoke(*common, "--follow")[1]) == []
    (row,) = parse_rows(invoke(*common, "--hidden", "--follow")[1])
    assert (row["path"], row["status"]) == ("photos/link/.hidden.jpg", "ok")
