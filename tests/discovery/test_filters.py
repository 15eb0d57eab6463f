"""What counts as an input: patterns, shards, limits, and what is passed over."""

import itertools
import logging
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from dinoclassify.discovery.discover import find
from dinoclassify.discovery.filters import Filters, InputSelector, Shard, describe_passed_over
from tests.helpers.image_tree import ALL, found


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.jpg"], [], ["photos/2024/raw/e.jpg", "photos/[1].jpg", "photos/b.jpg"]),
        ([], ["*.jpg"], ["photos/2024/d.webp", "photos/a.PNG"]),
        ([], ["2024/"], ALL[2:]),
        ([], ["/raw"], ALL),  # anchored: there is no raw in the folder named
        ([], ["raw"], [ALL[0], *ALL[2:]]),
        (["2024/"], ["*.webp"], ["photos/2024/raw/e.jpg"]),
        (["*.jpg", "!b.*"], [], ["photos/2024/raw/e.jpg", "photos/[1].jpg"]),
    ],
)
def test_include_and_exclude(tree: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    assert found("photos", filters=Filters(include, exclude)) == expected


def test_include_and_exclude_apply_to_named_paths_and_globs(tree: Path) -> None:
    filters = Filters(exclude=["*.PNG"])
    assert found("photos/a.PNG", "photos/b.jpg", "photos/[ab].*", filters=filters) == ["photos/b.jpg", "photos/b.jpg"]


def test_shards_are_disjoint_complete_and_independent_of_order(tree: Path) -> None:
    parts = [found("photos", filters=Filters(shard=Shard(index, 3))) for index in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == ALL
    assert found(*reversed(ALL), filters=Filters(shard=Shard(1, 3))) == parts[0][::-1]
    assert "photos/b.jpg" in Shard(9, 16), "fixed for ever: a run may be repeated by a later version"


def test_shards_are_about_equally_large() -> None:
    names = [f"photos/{number:06}.jpg" for number in range(16_000)]
    counts = [sum(name in Shard(index, 16) for name in names) for index in range(1, 17)]
    assert min(counts) > 850
    assert max(counts) < 1150


def test_limit_takes_the_first_images(tree: Path) -> None:
    assert found("photos", filters=Filters(limit=2)) == ALL[:2]
    assert found("photos", filters=Filters(limit=10**30)) == ALL


def test_skipped_files_are_counted_by_suffix(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("photos/x.PSD", "photos/2024/y.psd", "photos/README", "photos/.hidden.psd", "photos/z.zip"):
        Path(name).touch()
    Path("photos/link").symlink_to("2024")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("in.jpg", "notes.txt", ".hidden"):
            archive.writestr(name, b"x")

    def counted(*paths: str, filters: Filters | None = None) -> Counter[str]:
        counter: Counter[str] = Counter()
        rules = InputSelector(filters or Filters(), passed_over=counter)
        assert list(find(paths, rules))
        return counter

    caplog.set_level(logging.INFO)
    assert counted("./photos/", "a.zip") == {".psd": 2, ".txt": 2, "": 1, ".zip": 1, "link to a folder": 1}
    assert {"passed over: ./photos/2024/y.psd", "passed over: a.zip!notes.txt"} < set(caplog.messages)
    assert counted("photos/notes.txt", "photos/*.PSD") == {}, "what is named is tried"
    assert counted("photos", filters=Filters(exclude=["*.zip", "2024/", "link"])) == {".psd": 1, ".txt": 1, "": 1}
    assert counted("photos", filters=Filters(hidden=True))[".psd"] == 3


def test_what_patterns_leave_out_is_counted(tree: Path) -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("in.jpg", "other.jpg", "notes.txt"):
            archive.writestr(name, b"x")
    rules = InputSelector(Filters(include=["*.gone"]))
    assert not list(find(["a.zip"], rules))
    assert rules.left_out == {"image": 2}, "and not notes.txt"
    rules = InputSelector(Filters(exclude=["2024/", "*.zip"]))
    assert list(find(["photos", "a.zip"], rules))
    assert rules.left_out == {"folder": 1, "archive": 1}
    rules = InputSelector(Filters(exclude=["*"]))
    assert not list(find(["photos/b.jpg"], rules))
    assert rules.left_out == {"image": 1}


def test_thousands_of_suffixes_take_little_memory(tree: Path) -> None:
    counter: Counter[str] = Counter()
    rules = InputSelector(Filters(), passed_over=counter)
    for number in range(3000):
        rules.pass_over("", f"log.{number}")
    assert (len(counter), counter.total(), counter["of other suffixes"]) == (1001, 3000, 2000)


def test_skipped_files_are_summed_up_in_one_line() -> None:
    assert describe_passed_over(Counter()) == ""
    assert describe_passed_over(Counter({"": 3, ".psd": 9})) == "12 passed over: 9 .psd, 3 without suffix"
    many = Counter({f".{letter}": 1000 - number for number, letter in enumerate("abcdefg")})
    assert describe_passed_over(many) == "6,979 passed over: 1,000 .a, 999 .b, 998 .c, 997 .d, 996 .e, 1,989 others"
