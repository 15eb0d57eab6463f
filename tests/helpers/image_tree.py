"""A folder of images, and what is found in it."""

from pathlib import Path

import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.roots import check_roots
from dinoclassify.errors import NoInputsError


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/notes.txt",
        "photos/.hidden.jpg",
        "photos/.cache/c.jpg",
        "photos/2024/d.webp",
        "photos/2024/raw/e.jpg",
        "photos/[1].jpg",
        "-rf.jpg",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(folder)
    return folder


def found(*paths: str, filters: Filters | None = None, files_from: str | None = None, null: bool = False) -> list[str]:
    return [source.path for source in discover(paths, filters, files_from=files_from, null=null)]


ALL = ["photos/2024/d.webp", "photos/2024/raw/e.jpg", "photos/[1].jpg", "photos/a.PNG", "photos/b.jpg"]


def away(*paths: str) -> str:
    """Why one of these inputs is refused as missing; empty if all exist or get a row."""
    try:
        check_roots(paths, InputSelector(Filters()))
    except NoInputsError as error:
        return str(error)
    return ""
