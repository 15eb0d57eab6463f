"""Object stores: what lies below a prefix, and what is gone from it."""

import fsspec
import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.existence import _has_objects, is_gone
from tests.helpers.servers import Store


def test_a_prefix_may_contain_glob_characters(store: Store) -> None:
    for key in ("album [2024]/a.jpg", "album [2024]/b/c.jpg", "album 2/d.jpg", "what?/e.jpg", "what!/f.jpg"):
        store.put(key, b"x")

    def found(url: str) -> list[str]:
        return [source.path.removeprefix("s3://bucket/") for source in discover([url])]

    assert found("s3://bucket/album [2024]/") == ["album [2024]/a.jpg", "album [2024]/b/c.jpg"]
    assert found("s3://bucket/album [2024]") == ["album [2024]/a.jpg", "album [2024]/b/c.jpg"]
    assert found("s3://bucket/what?/") == ["what?/e.jpg"]
    assert found("s3://bucket/album [2024]/*.jpg") == ["album 2/d.jpg"]
    assert sorted(found("s3://bucket/what*/*.jpg")) == ["what!/f.jpg", "what?/e.jpg"]


def test_an_object_is_gone_if_the_store_lists_others_but_not_it(store: Store) -> None:
    _has_objects.cache_clear()
    store.put("photos/a.jpg", b"x")
    assert is_gone("s3://bucket/photos/b.jpg")
    assert is_gone("s3://bucket/photos/old/c.jpg")
    assert is_gone("s3://bucket/d.tar!c.jpg")
    assert not is_gone("s3://bucket/photos/a.jpg")
    assert not is_gone("s3://nowhere/photos/b.jpg")
    assert not is_gone("s3://nowhere/a.zip!b.jpg")
    store.faults.asked.clear()
    assert is_gone("s3://bucket/photos/c.jpg")
    assert len(store.faults.asked) == 1, "that the prefix has objects is known"
    _has_objects.cache_clear()
    store.delete("photos/a.jpg")
    assert not is_gone("s3://bucket/photos/b.jpg"), "an empty bucket may be another"


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Slow Down", "500 Internal Server Error"])
def test_no_object_is_gone_while_the_store_answers_with_errors(
    store: Store, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"total_max_attempts": 1}}})
    _has_objects.cache_clear()
    store.put("photos/a.jpg", b"x")
    store.faults.status, store.faults.share = status, 1.0
    for only in ("", "GET"):  # all requests, and the listing alone
        store.faults.only = only
        assert not is_gone("s3://bucket/photos/b.jpg")
        assert not is_gone("s3://bucket/photos/b.zip!c.jpg")
