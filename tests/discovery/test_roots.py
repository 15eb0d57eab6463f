"""Missing inputs: named with the reason and the cure before a run starts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.discovery.discover import find
from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.roots import check_disks, check_roots
from dinoclassify.errors import NoInputsError
from tests.helpers.image_tree import away


def test_a_disk_that_is_unmounted_during_a_run_is_noticed(tree: Path) -> None:
    disks: dict[int, str] = {}
    rules = InputSelector(Filters(), disks=disks)
    assert list(find(["photos", "*.png", "photos/*.jpg", "gone.jpg"], rules))
    device = tree.stat().st_dev
    assert disks == {device: "photos"}
    check_disks(disks)
    check_disks({device: "photos/none/below"})  # a folder that was deleted or moved
    for gone in ({device + 1: "photos"}, {device + 1: "photos/none"}):
        with pytest.raises(NoInputsError, match=r"^photos(/none)? went away during the run; is its disk mounted\?$"):
            check_disks(gone)


def test_existing_inputs_and_those_that_get_a_row_are_not_missing(tree: Path) -> None:
    Path("photos/link").symlink_to("2024")
    Path("photos/broken.jpg").symlink_to("gone")
    names = ["photos", "photos/", ".", "photos/link", "photos/link/", "photos/broken.jpg", "photos/notes.txt"]
    assert away(*names, "-", "photos/*", "photos/**/e.jpg", "photos/[1].jpg") == ""
    assert away("x.jpg", "x.TIFF", "x.tar.gz", "x.zip", "x.parquet", "x.zip!y", "photos/b.jpg/x.jpg") == ""
    assert away("https://example.org/photos/", "http://[::1") == ""


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nowhere"], "nowhere is not there: check its name, or mount its disk"),
        (["photos", "nowhere/"], "nowhere/ is not there: check its name, or mount its disk"),
        (["photo"], "photo is not there: did you mean photos?"),
        (["photos/b.jgp"], "photos/b.jgp is not there: did you mean photos/b.jpg?"),
        (["mnt/nas/photos"], "mnt/nas/photos is not there: mnt/nas is empty; is its disk mounted?"),
        (["away"], "away links to /nowhere/at/all, which is not there: check its name, or mount its disk"),
        (["away/"], "away/ links to /nowhere/at/all, which is not there: check its name, or mount its disk"),
        (["-rf.jpg/photos"], "-rf.jpg/photos is not there, as -rf.jpg is a file, not a folder: check its name"),
        (["photos/b.jpg/"], "photos/b.jpg/ is a file, not a folder: leave out the / at its end"),
        (["circle"], "circle cannot be reached (Too many levels of symbolic links): mend it, or leave it out"),
        (["x" * 300], f"{'x' * 300} cannot be reached (File name too long): mend it, or leave it out"),
        (["photos/*.heic"], "nothing matches photos/*.heic: check the pattern"),
        (["mnt/*/*.jpg"], "nothing matches mnt/*/*.jpg: check the pattern"),
        (["far/**/*.jpg"], "nothing matches far/**/*.jpg: far is not there: check its name, or mount its disk"),
        (["*.heic"], "nothing matches *.heic: check the pattern"),
        (["photos", "my", "photos"], "my is not there, but 'my photos' is: quote a name that has blanks in it"),
        (["our", "own", "x.jpg"], "our is not there, but 'our own x.jpg' is: quote a name that has blanks in it"),
        (["photos", "2024"], "2024 is not there, but 'photos 2024' is: quote a name that has blanks in it"),
        (
            ["~/x"],
            "~/x is not there: the shell expands ~ only outside quotes; write /home/me/x, or leave out the quotes",
        ),
    ],
)
def test_a_missing_input_is_named_with_the_reason_and_the_cure(
    tree: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for folder in ("mnt/nas", "my photos", "photos 2024"):
        Path(folder).mkdir(parents=True)
    Path("our own x.jpg").touch()
    Path("away").symlink_to("/nowhere/at/all")
    Path("circle").symlink_to("circle")
    assert away(*paths) == message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_an_input_without_read_permission_is_missing(shown_tree: Path, mode: int) -> None:
    code = (
        "import sys, os; from tests.helpers.image_tree import away; os.setuid(65534);"
        "print(*map(away, ['photos', 'photos/*.jpg', 'photos/2024']), sep='\\n')"
    )
    (shown_tree / "photos").chmod(mode)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    (shown_tree / "photos").chmod(0o755)
    cure = "cannot be listed (Permission denied): let this user read it, or leave it out"
    assert done.stderr == ""
    walked, glob, below = done.stdout.splitlines()
    assert walked == f"photos {cure}"
    assert glob == ("" if mode == 0o444 else f"nothing matches photos/*.jpg: photos/ {cure}")
    assert below == (
        ""
        if mode == 0o111
        else "photos/2024 cannot be reached (Permission denied): let this user reach it, or leave it out"
    )


def test_checking_a_glob_stops_at_the_first_match(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    scandir = os.scandir

    def noted(path: str) -> "Iterator[os.DirEntry[str]]":
        read.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    assert away("photos/**/*.jpg") == ""
    assert read == ["photos/"] * 2  # for the folders in it, and for the files


def test_a_list_named_as_an_image_is_pointed_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_roots(["photos/notes.txt"], InputSelector(Filters()))
    check_roots(["photos", "photos/notes.txt"], InputSelector(Filters()))
    said = "photos/notes.txt is tried as an image: for a list of paths write --files-from photos/notes.txt"
    assert caplog.messages == [said]
