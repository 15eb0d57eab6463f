"""Where sidecars stand, under which names, and what is never written over."""

import os
import shutil
from pathlib import Path

import pytest

from dinoclassify.results.sidecars.tag import TagOptions, sidecar_of
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import FLAT, LIGHTROOM, keywords, results, state, tagged_row


@pytest.mark.parametrize(
    ("image", "naming", "into", "expected"),
    [
        ("a/x.jpg", "full", None, "a/x.jpg.xmp"),
        ("a/x.jpg", "stem", None, "a/x.xmp"),
        ("a.b/x", "stem", None, "a.b/x.xmp"),
        ("./a//x.jpg", "full", "out", "out/a/x.jpg.xmp"),
        ("/a/x.jpg", "stem", "out", "out/a/x.xmp"),
        ("../x.jpg", "full", "out", "out{above}/x.jpg.xmp"),
        ("a..b/x.jpg", "full", "out", "out/a..b/x.jpg.xmp"),
    ],
)
def test_path_of_a_sidecar(
    image: str, naming: str, into: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = TagOptions(naming="stem" if naming == "stem" else "full", into=into)
    assert sidecar_of(image, plan) == expected.format(above=tmp_path.parent)


def test_two_images_of_one_sidecar_name_clash(photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photo.parent
    monkeypatch.chdir(folder)
    other = Path(shutil.copy(photo, folder / "x.png"))
    rows = results(folder, tagged_row("x.jpg", "tench"), tagged_row("./x.jpg", "late"), tagged_row("x.png", "carp"))
    code, _, err = tag(rows, "--naming", "stem")
    assert (code, err.count("\n")) == (3, 2)
    assert "x.png would have the same sidecar as" in err
    assert "1 sidecar written, 1 image left alone (1 clash)" in err
    assert keywords((folder / "x.xmp").read_bytes(), FLAT) == ["late"]
    assert tag(rows, "--naming", "stem", "--remove")[0] == 0
    (folder / str(folder)[1:]).mkdir(parents=True)
    below = Path(shutil.copy(other, folder / str(folder)[1:] / "x.png"))
    rows = results(folder, tagged_row(other, "tench"), tagged_row(below.relative_to(folder), "carp"))
    code, _, err = tag(rows, "--into", "out")
    assert (code, "1 clash" in err) == (3, True)
    assert [path.name for path in (folder / "out").rglob("*.xmp")] == ["x.png.xmp"]


def test_files_that_are_not_sidecars_are_never_overwritten(photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    named = [folder / name for name in ("rows.jsonl.meta", "p.json", "linked.jpg", "dead.jpg", "pipe.jpg")]
    for image in named:
        shutil.copy(photo, image)
    (folder / "rows.jsonl.meta.json").write_text("{}")
    (folder / "linked.jpg.json").symlink_to("x.jpg")
    (folder / "dead.jpg.json").symlink_to("nowhere.json")
    os.mkfifo(folder / "pipe.jpg.json")
    rows = results(folder, *(tagged_row(image, "tench") for image in named))
    before = state(folder)
    for naming in ("full", "stem"):
        code, out, err = tag(rows, "-f", "json", "--naming", naming, "--dry-run")
        assert code == 3
        if naming == "full":
            assert (out.count("\n"), f"write {folder}/p.json.json\n" in out) == (1, True)
            tag(rows, "-f", "json")
            assert {name for name, now in state(folder).items() if before.get(name) != now} == {f"{folder}/p.json.json"}
        else:
            assert "p.json would be written over the image" in err


def test_linked_images_and_linked_sidecars(photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    (folder / "links").mkdir()
    link = folder / "links" / "y.jpg"
    link.symlink_to(photo)
    rows = results(folder, tagged_row(link, "tench"))
    assert tag(rows)[0] == 0
    sidecar = folder / "links" / "y.jpg.xmp"
    stored = sidecar.rename(folder / "stored.xmp")
    sidecar.symlink_to(stored)
    tag(results(folder, tagged_row(link, "carp")))
    assert sidecar.is_symlink()
    assert keywords(stored.read_bytes(), FLAT) == ["carp"]
    tag(rows, "--remove")
    assert not stored.exists()
    assert not sidecar.is_symlink()


@pytest.mark.parametrize("length", [230, 251])
def test_long_image_names_get_sidecars(length: int, photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    long = photo.rename(folder / f"{'x' * (length - 4)}.jpg")
    rows = results(folder, tagged_row(long, "carp"))
    for made in ("xmp", "txt", "json") if length == 230 else ("xmp", "txt"):
        assert tag(rows, "-f", made)[0] == 0
        assert Path(f"{long}.{made}").exists()
        assert tag(rows, "-f", made, "--remove")[0] == 0
        assert not Path(f"{long}.{made}").exists()
    if length == 251:
        code, _, err = tag(rows, "-f", "json")
        assert (code, "File name too long: --naming stem has a shorter one" in err) == (3, True)
        assert tag(rows, "-f", "json", "--naming", "stem")[0] == 0


def test_remove_deletes_folders_it_emptied(photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    for name in ("a/b/x.jpg", "a/y.jpg", "c/z.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, name)
    rows = results(photo.parent, *(tagged_row(name, "carp") for name in ("a/b/x.jpg", "a/y.jpg", "c/z.jpg")))
    Path("out/a/empty").mkdir(parents=True)
    Path("out/other").mkdir()
    assert tag(rows, "--into", "out")[0] == 0
    assert tag(rows, "--into", "out", "--remove")[0] == 0
    assert sorted(str(path) for path in Path("out").rglob("*")) == ["out/a", "out/a/empty", "out/other"]
    shutil.rmtree("out")
    assert tag(rows, "--into", "out")[0] == 0
    assert tag(rows, "--into", "out", "--remove")[0] == 0
    assert os.listdir("out") == [], "the folder that the user named stays"
    assert tag(rows)[0] == 0
    shutil.move("c/z.jpg", "z.jpg")
    assert tag(rows, "--remove")[0] == 0
    assert Path("c").is_dir(), "folders of images stay"


def test_file_mode_is_kept_and_read_only_sidecars_are_left_alone(
    photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_text(LIGHTROOM)
    sidecar.chmod(0o640)
    assert tag(results(photo.parent, tagged_row(photo, "tench")))[0] == 0
    assert sidecar.stat().st_mode & 0o7777 == 0o640
    before = state(photo.parent)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as it is for all but root
    code, _, err = tag(results(photo.parent, tagged_row(photo, "carp")))
    assert (code, f"cannot write {sidecar}: Permission denied" in err) == (3, True)
    assert state(photo.parent)[str(sidecar)] == before[str(sidecar)]
