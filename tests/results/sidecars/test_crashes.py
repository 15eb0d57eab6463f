"""`tag` that is killed or cannot write, and what such a run leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.storage.atomic import temporary_name
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import FLAT, LIGHTROOM, keywords, results, tagged_row


def test_unwritable_folder_is_skipped_and_full_disk_ends_the_run(
    photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photo.parent
    (folder / "out").mkdir()
    (folder / "out" / str(folder)[1:].split("/")[0]).touch()  # a file where a folder should be
    other = Path(shutil.copy(photo, folder / "y.jpg"))
    monkeypatch.chdir(folder)
    rows = results(folder, tagged_row(photo, "tench"), tagged_row(other.name, "carp"))
    code, _, err = tag(rows, "--into", "out")
    assert (code, "1 sidecar written, 1 image left alone (1 unwritable)" in err) == (3, True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dinoclassify.storage.atomic.os.fsync", full)
    code, _, err = tag(rows)
    assert (code, err) == (6, f"dinoclassify: cannot write {photo}.xmp: No space left on device\n")
    assert not list(folder.glob("*.xmp*"))


@pytest.mark.parametrize("arguments", [(), ("--remove",)])
def test_killed_run_keeps_the_old_sidecar_and_the_next_cleans_up(
    arguments: tuple[str, ...], photo: Path, tag: Invoke
) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_text(LIGHTROOM)
    rows = results(photo.parent, tagged_row(photo, "carp"))
    before = {*photo.parent.iterdir()}
    kill = "import os; from dinoclassify.storage import atomic; atomic.os.replace = lambda *_: os.kill(os.getpid(), 9)"
    reader = "from dinoclassify.results.reader import read_predictions"
    sidecars = "from dinoclassify.results.sidecars.tag import TagOptions, tag"
    command = f"{kill}; {reader}; {sidecars}; list(tag(read_predictions({str(rows)!r}), TagOptions()))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert sidecar.read_text() == LIGHTROOM
    (left,) = {*photo.parent.iterdir()} - before  # under a name that another run does not give
    others = [photo.parent / f".{digits}-{'0' * 16}.dinoclassify.tmp" for digits in ("01234567", left.name[1:9])]
    others[0].touch()  # of another file
    others[1].mkdir()
    assert tag(rows, "--dry-run")[0] == 0
    assert tag(rows)[0] == 0
    assert left.exists(), "it is of a minute ago at most"
    os.utime(left, (0, 0))
    assert tag(rows, "--dry-run")[0] == 0
    assert left.exists()
    assert tag(rows, *arguments)[0] == 0
    assert ("carp" in keywords(sidecar.read_bytes(), FLAT)) == (not arguments)
    assert {*photo.parent.iterdir()} - before == {*others}


def test_temporary_file_of_a_running_process_is_kept(photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = results(photo.parent, tagged_row(photo, "carp"))
    temporary = Path(temporary_name(str(photo.parent / "x.jpg.xmp")))
    temporary.write_text("being written")
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: pytest.fail("nobody waits for it"))
        assert tag(rows) == (0, "", "dinoclassify: 1 row: 1 sidecar written\n")
    assert temporary.exists()
    os.utime(temporary, (time.time() - 61,) * 2)
    assert tag(rows)[0] == 0
    assert not temporary.exists()


def test_each_folder_is_listed_once(photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Path(shutil.copy(photo, photo.parent / f"{number}.jpg")) for number in range(20)]
    listed: list[str] = []
    real = os.scandir

    def listing(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr("dinoclassify.results.sidecars.leftovers.os.scandir", listing)
    assert tag(results(photo.parent, *(tagged_row(one, "carp") for one in images)))[0] == 0
    assert len(listed) == 1
