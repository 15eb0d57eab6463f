"""What a path names, by its text and by what exists."""

from pathlib import Path

import pytest

from dinoclassify.discovery.location import (
    Kind,
    Location,
    absolute_path,
    container_of,
    is_local_file,
    locate,
    locate_image,
)


@pytest.mark.parametrize(
    ("path", "kind", "container", "name"),
    [
        ("a.jpg", Kind.FILE, "", ""),
        ("wow!.jpg", Kind.FILE, "", ""),
        ("https://a.org/b.jpg", Kind.FILE, "", ""),
        ("a.ZIP", Kind.ARCHIVE, "", ""),
        ("a.zip!b.zip", Kind.ARCHIVE, "a.zip", "b.zip"),
        ("a.zip!b/c.jpg", Kind.MEMBER, "a.zip", "b/c.jpg"),
        ("s3://bucket/a.tar!b.jpg", Kind.MEMBER, "s3://bucket/a.tar", "b.jpg"),
        ("a.parquet", Kind.TABLE, "", ""),
        ("a.parquet!3", Kind.ROW, "a.parquet", "3"),
    ],
)
def test_a_path_is_parsed_into_kind_and_container(path: str, kind: Kind, container: str, name: str) -> None:
    assert Location.parse(path) == Location(path, kind, container, name)
    assert container_of(path) == container


def test_an_existing_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("a.zip!b.jpg").kind is Kind.MEMBER
    assert not is_local_file("a.zip!b.jpg")
    Path("a.zip!b.jpg").touch()
    Path("b[1].jpg").touch()
    assert locate("a.zip!b.jpg") == locate_image("a.zip!b.jpg") == Location("a.zip!b.jpg", Kind.FILE)
    assert is_local_file("a.zip!b.jpg")
    assert locate("b[1].jpg").kind is Kind.FILE
    assert locate("b[2].jpg").kind is Kind.GLOB


def test_folders_lists_stores_and_globs_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.zip").mkdir()
    Path("a.zip").touch()
    kinds = {
        "-": Kind.STDIN,
        "s3://bucket/*.jpg": Kind.STORE,
        "s3://bucket/a.zip": Kind.STORE,
        "https://a.org/b[1].jpg": Kind.FILE,
        "https://a.org/b.zip": Kind.ARCHIVE,
        "folder.zip": Kind.FOLDER,
        "*.jpg": Kind.GLOB,
        "a.zip!b*.jpg": Kind.MEMBER,
        "none.zip!b*.jpg": Kind.GLOB,
    }
    assert {path: locate(path).kind for path in kinds} == kinds


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("album.zip!dir/x.jpg", ("album.zip", "dir/x.jpg")),
        ("s3://bucket/a.TAR.gz!x.jpg", ("s3://bucket/a.TAR.gz", "x.jpg")),
        ("wow!/album.zip!x!.jpg", ("wow!/album.zip", "x!.jpg")),
        ("a.tar!b.zip!x.jpg", ("a.tar", "b.zip!x.jpg")),
        ("a.zip!two\nlines\0.jpg", ("a.zip", "two\nlines\0.jpg")),
        ("wow!.jpg", None),
        ("album.zip", None),
        ("album.zip!", None),
    ],
)
def test_a_path_is_split_at_its_first_archive(path: str, parts: tuple[str, str] | None) -> None:
    location = Location.parse(path)
    assert (location.container, location.name) == (parts or ("", ""))


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("./a//b/../c.jpg", "/here/a/c.jpg"),
        ("/a/./c.jpg", "/a/c.jpg"),
        ("../c.jpg", "/c.jpg"),
        ("./b//a.zip!d//c.jpg", "/here/b/a.zip!d//c.jpg"),
        ("a.zip!./../c.jpg", "/here/a.zip!./../c.jpg"),
        ("s3://bucket/a//c.jpg", "s3://bucket/a//c.jpg"),
    ],
)
def test_input_paths_are_made_absolute(path: str, absolute: str) -> None:
    assert absolute_path(path, "/here") == absolute
