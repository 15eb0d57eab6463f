"""Text and JSON sidecars: lines and keys of others stay."""

import json
from pathlib import Path

import pytest

from dinoclassify.results.sidecars.formats import json as json_file
from dinoclassify.results.sidecars.formats import txt as text
from dinoclassify.results.sidecars.formats.base import SidecarError
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import results, tagged_row, wanted


def test_text_keeps_lines_that_are_no_labels_of_the_row(photo: Path, tag: Invoke) -> None:
    sidecar = photo.parent / f"{photo.name}.txt"
    sidecar.write_text("tabby\n")
    tag(results(photo.parent, tagged_row(photo, "tench", "tabby")), "-f", "txt")
    assert sidecar.read_text() == "tabby\ntench\n"
    tag(results(photo.parent, tagged_row(photo, "tench", "tabby", uncertain=True)), "-f", "txt")
    assert sidecar.read_text() == "tabby\ntench\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, "red, round\ncarp\n"),
        ("", "red, round\ncarp\n"),
        ("mine\n\nyours\n", "mine\n\nyours\nred, round\ncarp\n"),
        ("mine\r\nyours\r\n", "mine\r\nyours\r\nred, round\r\ncarp\r\n"),
        ("mine", "mine\nred, round\ncarp"),
        ("mine\r\nyours", "mine\r\nyours\r\nred, round\r\ncarp"),
        ("\ufeffmine\n", "\ufeffmine\nred, round\ncarp\n"),
        ("a \n carp\nb\n", "a \n carp\nb\nred, round\n"),
    ],
)
def test_text_keeps_lines_of_others(old: str | None, new: str) -> None:
    before = old.encode() if old is not None else None
    request = wanted("red, round", "carp")
    content = text.update(before, request)
    assert content == new.encode()
    assert text.update(content, request) is content
    assert text.update(content, wanted(ranks=("red, round", "carp"))) == (before or None)


def test_text_drops_labels_that_no_longer_apply() -> None:
    request = wanted("carp", ranks=("tench", "two\nlines\x07\u2028"))
    assert text.update(b"mine\ntench\ntwo lines\n", request) == b"mine\ncarp\n"
    assert text.update(b"", wanted()) == b""
    for other in ("mine\n".encode("utf-16"), b"\xff\xd8\xff\xe0", b"a\0b"):
        with pytest.raises(SidecarError):
            text.update(other, request)


@pytest.mark.parametrize(
    "old",
    [
        '{\n  "title": "x.jpg",\n  "photoTakenTime": {"timestamp": "1500000000"},\n  "geo": {"latitude": 1.10}\n}\n',
        '{"a":1e5,"b":"\\u00e9\\/","b":2,"c":[1, 2]}',
        '{\r\n\t"a": 123456789012345678901234567890\r\n}',
        '\ufeff { "a" : null } \n',
    ],
)
def test_json_keeps_keys_of_others_to_the_byte(old: str) -> None:
    before = old.encode()
    content = json_file.update(before, wanted("tench", "שלום"))
    assert content is not None
    assert json.loads(content.decode("utf-8-sig")) == {
        **json.loads(old.removeprefix("\ufeff")),
        "dinoclassify": {
            "labels": [{"label": "tench", "score": 0.9, "index": 0}, {"label": "שלום", "score": 0.45, "index": 1}]
        },
    }
    assert json_file.update(content, wanted("tench", "שלום")) is content
    other = json_file.update(content, wanted("carp"))
    assert other is not None
    assert json_file.update(other, wanted()) == before
    assert json_file.update(before, wanted()) is before
    first = content.replace(b"{", b'{"dinoclassify": {},', 1)
    with pytest.raises(SidecarError, match="twice"):
        json_file.update(first, wanted())


def test_json_reformatted_by_others_is_understood() -> None:
    request = wanted("tench")
    fresh = json_file.update(None, request)
    assert fresh is not None
    indented = json.dumps(json.loads(fresh), indent=7).encode()
    assert json_file.update(indented, request) is indented  # which says the same
    assert json_file.update(b"{}", request) == fresh.removesuffix(b"\n")
    moved = json.dumps({**json.loads(fresh), "mine": 1}).encode()
    assert json_file.update(moved, wanted()) == b'{"mine": 1}'
    lone = json_file.update(None, wanted("\udcff"))
    assert lone is not None
    assert json_file.update(lone, wanted("\udcff")) is lone
    for other in (b"", b"[]", b'"x"', b'{"a": 1', b"{}{}", b"\xff\xfe{\0}\0", b'{"a": ' + b"[" * 100_000):
        with pytest.raises(SidecarError):
            json_file.update(other, request)
