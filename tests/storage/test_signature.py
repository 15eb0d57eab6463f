"""Size and time of an image, from the entry of any kind of store."""

import pytest

from dinoclassify.storage.signature import entry_signature

NO_TAG = 258269876  # a digest of nothing: the fraction of a time that goes without an ETag


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"size": 3, "mtime": 1700000000.5, "created": 1.0}, (3, 1700000000_000000000)),  # a local file
        ({"size": 3, "updated": "2023-11-14T22:13:20.5Z"}, (3, 1700000000_000000000)),  # Google's
        ({"Content-Length": "3", "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"}, (3, 1700000000_000000000)),
        ({"size": 3, "last_modified": None}, (3, None)),
        ({"size": 3, "mtime": "yesterday", "ETag": ""}, (3, None)),
        ({"size": 3, "Last-Modified": "Fri, 31 Dec 9999 23:59:59 GMT"}, (3, 9223372035_000000000)),  # fits 64 bits
        ({"size": 3, "Last-Modified": "Mon, 01 Jan 1900 00:00:00 GMT"}, (3, 0)),
        ({"type": "file"}, (None, None)),
    ],
)
def test_size_and_time_are_read_from_every_store_s_entry(entry: dict[str, object], expected: object) -> None:
    found = entry_signature(entry)
    assert found[1] is None or found[1] % 10**9 == NO_TAG
    assert (found[0], found[1] and found[1] // 10**9 * 10**9) == expected


def test_a_content_hash_stands_in_for_the_time() -> None:
    tagged = [
        entry_signature({"size": 3, name: "1"}) for name in ("ETag", "sha", "blob_id")
    ]  # of the web, GitHub, a hub
    assert tagged[0] == tagged[1] == tagged[2] != entry_signature({"size": 3, "ETag": "2"})
    assert tagged[0][1] is not None
    assert tagged[0][1] // 10**9 == 0
