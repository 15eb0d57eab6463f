"""Fixtures of the tests of `report`."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.report_page import NAMES


@pytest.fixture
def photos(here: Path) -> list[str]:
    """The sample images, as paths in that folder."""
    shutil.copytree(PHOTOS, "photos")
    return [f"photos/{name}" for name in NAMES]


@pytest.fixture(autouse=True)
def _in_a_folder(here: Path) -> None:
    """Each test stands in a folder of its own, to which pages go."""
