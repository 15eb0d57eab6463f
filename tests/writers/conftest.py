"""Fixtures of the tests of outputs."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from dinoclassify.writers import chunks as chunks_of
from dinoclassify.writers import output_folder
from tests.helpers.outputs import KINDS, in_store, prepare_folder


@pytest.fixture
def eleven_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the images of `PATHS`, where also the state of outputs in a store is kept."""
    prepare_folder(tmp_path, monkeypatch)


@pytest.fixture(params=KINDS)
def output_name(request: pytest.FixtureRequest) -> str:
    """The name of an output of each kind, which does not exist yet."""
    return in_store(request.param)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 images, and parts of 5 rows."""
    monkeypatch.setattr(chunks_of, "CHUNK", 4)
    monkeypatch.setattr(output_folder, "PART", 5)


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of an output folder that does not exist yet."""
    if request.param == "disk":
        yield str(tmp_path / "labels")
        return
    root = f"memory://{uuid4().hex}"
    yield f"{root}/labels"
    store = fsspec.filesystem("memory")
    if store.exists(root):
        store.rm(root, recursive=True)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Ten files, which stand for images."""
    paths = [str(tmp_path / f"{number}.jpg") for number in range(10)]
    for path in paths:
        Path(path).write_bytes(b"x")
    return paths
