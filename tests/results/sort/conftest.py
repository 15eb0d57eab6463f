"""Fixtures of the tests of `sort`."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MEMORY


@pytest.fixture
def sorted_folder(here: Path) -> Path:
    """A folder `sorted` that is there before."""
    (here / "sorted").mkdir()
    return here / "sorted"


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A folder that no file of the others can be renamed into."""
    places = [place for place in (MEMORY, Path(tempfile.gettempdir())) if place.is_dir()]
    other = next((place for place in places if place.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip(f"{MEMORY} and the folder for temporary files are one file system")
    folder = Path(tempfile.mkdtemp(dir=other))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fat(other_file_system: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which files have the rights and the even seconds that FAT gives them."""
    copy2 = shutil.copy2

    def rounded(source: str, target: str) -> None:
        copy2(source, target)
        if target.startswith(str(other_file_system)):
            os.chmod(target, 0o777)
            os.utime(target, ns=(os.stat(target).st_mtime_ns // 2_000_000_000 * 2_000_000_000,) * 2)

    monkeypatch.setattr("dinoclassify.results.sort.transfer.shutil.copy2", rounded)
    return other_file_system
