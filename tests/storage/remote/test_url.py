"""Which paths are URLs."""

import pytest

from dinoclassify.storage.remote.url import is_url, is_web


@pytest.mark.parametrize("path", ["photos/a.jpg", "c:/a.jpg", "c://a.jpg", "a b://c", "://a", "/s3://a", "s3:/a"])
def test_paths_are_not_urls(path: str) -> None:
    assert not is_url(path)


def test_urls_are_recognised_by_their_scheme() -> None:
    assert all(map(is_url, ["s3://b/k", "HTTPS://a.org/b", "abfs://c@a/b", "file:///a"]))
    assert is_web("HTTPS://a.org/b")
    assert not is_web("s3://https://b")
