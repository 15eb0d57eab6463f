"""The output of a watch while other programs rotate it, or its disk is full or away."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.errors import OutputError
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.rotated_file import RotatedFile
from tests.helpers.drop_folder import HEADER
from tests.helpers.watching import names_in


def row(name: str) -> Prediction:
    return Prediction(name, "ok", (Label("cat", 281, 0.9),), size=1, mtime_ns=1)


def never(_: float) -> bool:
    pytest.fail("there is nothing to wait for")


@pytest.fixture
def begun() -> list[str]:
    """One entry for each new file."""
    return []


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]) -> RotatedFile[Prediction]:
    monkeypatch.chdir(tmp_path)
    return open_rotated("rows.csv", begun)


def open_rotated(name: str, begun: list[str]) -> RotatedFile[Prediction]:
    file = AppendFile(os.path.realpath(name), name, open_format("csv", 1).lines)
    file.open(check_end=True)
    rotated = RotatedFile(file, lambda: begun.append("begun"))
    assert rotated.append(row("1"), never)
    return rotated


def truncate() -> None:
    shutil.copy("rows.csv", "old.csv")
    os.truncate("rows.csv", 0)


def rename() -> None:
    os.rename("rows.csv", "old.csv")


def create() -> None:
    rename()
    Path("rows.csv").touch()


def fail_to_open(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def replace_by(content: str) -> None:
    Path("edited").write_text(content)
    os.rename("edited", "rows.csv")


@pytest.mark.parametrize("rotate", [truncate, rename, create])
def test_rows_after_a_rotation_are_in_a_new_file_with_a_header(
    rotate: Callable[[], None], rotated: RotatedFile[Prediction], begun: list[str]
) -> None:
    for number in range(2, 5):
        rotate()
        assert rotated.append(row(str(number)), never)
        assert names_in("old.csv") == [str(number - 1)]
        assert names_in("rows.csv") == [str(number)]
    assert len(begun) == 3


def test_a_removed_file_is_created_again_at_once(rotated: RotatedFile[Prediction], begun: list[str]) -> None:
    os.unlink("rows.csv")
    rotated.follow()
    assert names_in("rows.csv") == []
    rotated.follow()
    assert rotated.append(row("2"), never)
    rotated.sync()
    assert names_in("rows.csv") == ["2"]
    assert begun == ["begun"]


def test_a_row_is_in_the_file_even_if_it_is_truncated_at_the_last_moment(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_in_place(_: object) -> bool:
        os.truncate("rows.csv", 0)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(AppendFile, "is_in_place", is_in_place)
        assert rotated.append(row("2"), never)
    assert names_in("rows.csv") == ["2"]
    assert rotated.append(row("3"), never)
    assert names_in("rows.csv") == ["2", "3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_new_file_has_the_rights_of_the_old_one(rotated: RotatedFile[Prediction]) -> None:
    os.chown("rows.csv", 1234, 1235)
    os.chmod("rows.csv", 0o640)
    rename()
    rotated.follow()
    status = os.stat("rows.csv")
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 1234, 1235)
    create()
    rotated.follow()
    assert os.stat("rows.csv").st_uid == 0, "logrotate has made this one as it should be"


def test_a_new_file_has_the_rights_of_the_old_one_even_after_a_failed_attempt(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod("rows.csv", 0o640)
    rename()
    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.writers.append_file.os.open", fail_to_open)
        rotated.follow()
    assert not os.path.exists("rows.csv")
    rotated.follow()
    assert os.stat("rows.csv").st_mode & 0o777 == 0o640


def test_rows_follow_a_symbolic_link_to_its_new_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("large")
    Path("here.csv").touch()
    os.symlink("here.csv", "rows.csv")
    rotated = open_rotated("rows.csv", begun)
    os.rename("here.csv", "large/there.csv")
    os.unlink("rows.csv")
    os.symlink("large/there.csv", "rows.csv")
    assert rotated.append(row("2"), never)
    assert names_in("large/there.csv") == ["1", "2"]
    rename()
    assert rotated.append(row("3"), never)
    assert names_in("rows.csv") == ["3"]
    assert not os.path.islink("rows.csv")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a,b\n1,2\n", r"it has other rows \(it has other columns\)"),
        (f"{HEADER}\r\n", "its lines end in CRLF"),
        (f'{HEADER}\n"x,ok,cat,0.9,281,,,1,1\n2,ok,cat,0.9,281,,,1,1\n', "it has other rows"),
    ],
)
def test_rows_wait_while_a_file_with_other_contents_has_the_name(
    rotated: RotatedFile[Prediction], caplog: pytest.LogCaptureFixture, content: str, why: str
) -> None:
    replace_by(content)

    def wait(_: float) -> bool:
        assert Path("rows.csv").read_bytes() == content.encode()
        assert re.search(f"cannot add to rows.csv, {why}.*: move it away", rotated.trouble or "")
        os.unlink("rows.csv")
        return True

    assert rotated.append(row("2"), wait)
    assert names_in("rows.csv") == ["2"]
    assert rotated.trouble is None
    assert [record.getMessage()[:24] for record in caplog.records] == [
        "cannot add to rows.csv, ",
        "rows.csv can be written ",
    ]


def test_rows_wait_while_the_folder_is_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    rotated = open_rotated("out/rows.csv", [])
    os.rename("out", "disk")
    os.mkdir("out")

    def wait(_: float) -> bool:
        assert os.listdir("out") == []
        os.rmdir("out")
        os.rename("disk", "out")
        return True

    assert rotated.append(row("2"), wait)
    assert names_in("out/rows.csv") == ["1", "2"]
    assert "its folder is missing or was replaced; is its disk mounted?; waiting" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rows_wait_with_growing_pauses_while_the_disk_is_full(
    rotated: RotatedFile[Prediction],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    pauses: list[float] = []
    write = os.write

    def write_a_part(descriptor: int, line: bytes) -> int:
        if len(pauses) == 8:
            return write(descriptor, line)
        if len(line) > 5:
            return write(descriptor, bytes(line[:5]))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dinoclassify.storage.atomic.os.write", write_a_part)

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        assert names_in("rows.csv") == ["1"], "no part of a row"
        rotated.follow()
        assert rotated.trouble == f"cannot write rows.csv: {os.strerror(number)}", (
            "that the file is there helps nothing"
        )
        return True

    assert rotated.append(row("x" * 9), wait)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert names_in("rows.csv") == ["1", "x" * 9]
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write rows.csv: {os.strerror(number)}; waiting until it can be written (dinoclassify guide watch)",
        "rows.csv can be written again",
    ]


def test_a_run_may_end_while_its_disk_is_full(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dinoclassify.storage.atomic.os.write", full)
    assert not rotated.append(row("2"), lambda _: False)


def test_a_file_that_another_program_cuts_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AppendFile, "_check_size", lambda *_, **__: 1000)
    Path("rows.csv").touch()
    with pytest.raises(OutputError) as raised:
        AppendFile("rows.csv", "rows.csv", open_format("csv", 1).lines).open()
    said = "cannot write rows.csv: another program is changing it; end that program, and run again"
    assert str(raised.value) == said
