"""Fixtures of the tests of clusters."""

from collections.abc import Iterator
from typing import Any

import pytest

from dinoclassify.writers import chunks
from tests.helpers.cluster import IMAGES, cluster_of, make_images


@pytest.fixture(scope="module")
def image_paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths of `IMAGES` images."""
    return make_images(tmp_path_factory.mktemp("ray") / "images", IMAGES)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes that tests share: do not kill any of its processes."""
    with cluster_of(2) as made:
        yield made
