"""Files that replace others: their names, links and rights until then and after."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import is_temporary, put_in_place, replacing, sweep, temporary_name
from dinoclassify.storage.lock import locked
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output_file import OutputFile
from tests.conftest import Cli


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rights(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_gid


def other_group() -> int:
    """A group other than the default that this user may give files to; skips the test if there is none."""
    groups = [1234] if os.geteuid() == 0 else [group for group in os.getgroups() if group != os.getegid()]
    if not groups:
        pytest.skip("this user is in one group only")
    return groups[0]


def by_renaming(content: bytes) -> None:
    Path("journal").write_bytes(content)
    put_in_place("journal", os.path.abspath("out"))


def by_replacing(content: bytes) -> None:
    with replacing("out") as file:
        file.write(content)


WAYS = pytest.mark.parametrize("write", [by_replacing, by_renaming])


@WAYS
def test_a_replaced_file_keeps_its_mode_and_group(write: Callable[[bytes], None]) -> None:
    group = other_group()
    Path("out").write_bytes(b"old")
    os.chown("out", -1, group)
    Path("out").chmod(0o640)
    write(b"new")
    assert Path("out").read_bytes() == b"new"
    assert rights("out") == (0o640, group)


@WAYS
def test_a_new_file_follows_the_umask(write: Callable[[bytes], None]) -> None:
    before = os.umask(0o027)
    try:
        write(b"new")
    finally:
        os.umask(before)
    assert rights("out")[0] == 0o640


def test_the_group_s_rights_go_if_its_group_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    group = other_group()
    Path("out").write_bytes(b"old")
    os.chown("out", -1, group)
    Path("out").chmod(0o664)

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.fchown", refuse)
    by_replacing(b"new")
    assert rights("out") == (0o644, os.getegid())


def test_the_unfinished_file_is_as_private_as_the_old_one() -> None:
    Path("out").write_bytes(b"old")
    Path("out").chmod(0o600)
    with replacing("out") as file:
        assert rights(file.name)[0] == 0o600


@pytest.mark.parametrize("name", ["out", "x" * 250])
def test_a_planted_link_is_not_written_through(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither under the names that older versions used, nor if the random name were guessed."""
    Path("precious").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    if name == "out":
        Path("out.new").symlink_to("precious")
    with replacing(name) as file:
        file.write(b"new")
    assert Path(name).read_bytes() == b"new"
    Path(temporary_name(name)).symlink_to("precious")
    with pytest.raises(OutputError, match="File exists"), replacing(name):
        pass
    assert Path("precious").read_text() == "precious"


def test_a_planted_journal_is_not_put_in_place() -> None:
    Path("precious").write_text("precious")
    Path("out").write_text("old")
    Path("journal").symlink_to("precious")
    with pytest.raises(OutputError, match="symbolic links"):
        put_in_place("journal", os.path.abspath("out"))
    assert Path("out").read_text() == "old"


def test_leftovers_of_killed_runs_are_swept_by_the_next_run() -> None:
    killed = "import os, dinoclassify.storage.atomic as f\nwith f.replacing('out.csv.partial.meta.json'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], timeout=60).returncode == 9
    (left,) = os.listdir()
    assert is_temporary(left)
    others = [temporary_name("other.csv"), "out.csv.partial.new", f"{left}x", left.replace("dinoclassify", "x")]
    for name in others:
        Path(name).touch()
    with locked("out.csv", wait=False):
        assert {name for name in os.listdir() if not name.endswith(".lock")} == {*others}


def test_sweeping_does_not_follow_links() -> None:
    Path("precious").mkdir()
    Path("precious/file").touch()
    Path(temporary_name("out")).symlink_to("precious")
    sweep("out")
    assert os.listdir() == ["precious"]
    assert os.listdir("precious") == ["file"]


def test_a_leftover_that_cannot_be_removed_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        Path(temporary_name("out")).touch()
    stuck, unlink = os.listdir()[0], os.unlink  # the first that is tried

    def refuse(path: str) -> None:
        if os.path.basename(path) == stuck:
            raise PermissionError(13, "Permission denied")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    sweep("out")
    assert os.listdir() == [stuck]


def test_temporary_names_are_short_and_unique() -> None:
    name = temporary_name("é" * 120)
    assert len(name) < 50
    assert re.fullmatch(r"\.[0-9a-f]{8}-[0-9a-f]{16}\.dinoclassify\.tmp", name)
    assert name != temporary_name("é" * 120)


def test_the_partial_output_is_as_private_as_the_finished_one() -> None:
    Path("out.csv").touch()
    os.chmod("out.csv", 0o640)
    output = OutputFile("out.csv", open_format("csv", 1), batch_size=8)
    for begin in (partial(output.journal.begin, {}), output.journal.resume):
        begin()
        output.journal.close()
        assert rights("out.csv.partial")[0] == 0o640


def test_links_planted_beside_the_output_are_not_followed() -> None:
    """The output itself may be a link, as the user named it, and stays one."""
    Path("real.csv").touch()
    Path("out.csv").symlink_to("real.csv")
    Path("precious").write_text("precious")
    Path("precious").chmod(0o4755)
    for ending in (".meta.json", ".partial", ".partial.meta.json"):
        Path(f"real.csv{ending}").symlink_to("precious")
    assert run(["predict", "nothing.jpg", "-m", "builtin", "-q", "-o", "out.csv", "--fresh"]) == 3
    assert Path("precious").read_text() == "precious"
    assert Path("out.csv").is_symlink()
    assert Path("real.csv").read_text().startswith("path,")
    assert not Path("real.csv.meta.json").is_symlink()
    assert rights("real.csv.meta.json")[0] & 0o4111 == 0
    assert sorted(os.listdir()) == ["out.csv", "precious", "real.csv", "real.csv.meta.json"]


@pytest.mark.slow
def test_a_rerun_keeps_the_mode_of_its_output(cli: Cli) -> None:
    name = "x" * 226 + ".csv"
    run = ["predict", "nothing.jpg", "-m", "builtin", "-q", "-o", name]
    assert cli(*run).returncode == 3
    for path in (name, f"{name}.meta.json"):
        Path(path).chmod(0o640)
    assert cli(*run).returncode == 3
    assert [rights(path)[0] for path in (name, f"{name}.meta.json")] == [0o640, 0o640]
