"""Parts of `merge`: missing, doubled, changed or unlike ones are refused, unless allowed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dinoclassify.discovery.filters import Shard
from dinoclassify.errors import UsageError
from dinoclassify.results.merge.merge import merge
from dinoclassify.results.merge.parts import find_parts
from dinoclassify.writers.fingerprint import write_meta
from tests.helpers.parts import (
    FORMATS,
    MADE_WITH,
    TWENTY,
    cat_row,
    packed,
    paths_in,
    why_not,
    write,
    write_part,
    write_shard,
    write_shards,
)


def test_path_in_two_parts_is_refused_or_the_last_counts(here: Path) -> None:
    write_part(Path("a.jsonl"), [cat_row("x", "old"), cat_row("y"), cat_row("x", "older"), cat_row("w", "old")])
    write_part(Path("b.jsonl"), [cat_row("z"), cat_row("x", "new"), cat_row("x", "newer")])
    write_part(Path("c.jsonl"), [cat_row("w", "new")])
    said = why_not("a.jsonl", "b.jsonl", "c.jsonl")
    assert said.startswith("w is in a.jsonl and c.jsonl, and 1 other path too: leave a part out, or --allow-d")
    merge(["a.jsonl", "b.jsonl", "c.jsonl"], "out.jsonl", "jsonl", allow_duplicates=True)
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["path"], row["label"]) for row in rows] == [
        ("y", "cat"),
        ("z", "cat"),
        ("x", "new"),
        ("x", "newer"),
        ("w", "new"),
    ]
    assert "a.jsonl and a.jsonl" in why_not("a.jsonl", "a.jsonl", out="other.jsonl")


def test_missing_parts_are_refused_or_reported(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = write_shards(here, TWENTY, 7)
    some = [parts[0], parts[2], parts[5], parts[6]]
    cure = "name all, or --allow-gaps merges what there is"
    assert why_not(*some) == f"part 2 of 7 is missing, and 2 more: {cure}"
    assert why_not(*parts[:6]) == f"part 7 of 7 is missing: {cure}"
    merge(some, "out.jsonl", "jsonl", allow_gaps=True)
    there = [row.path for row in TWENTY if any(row.path in Shard(index, 7) for index in (1, 3, 6, 7))]
    assert paths_in(Path("out.jsonl")) == there
    assert [record.message for record in caplog.records] == ["part 2 of 7 is missing, and 2 more"]


def test_shard_given_twice_is_refused_or_the_last_counts(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("new").mkdir()
    newer = write_shard(Path("new"), [cat_row(row.path, "new") for row in TWENTY], Shard(1, 2))
    said = "part-01.jsonl and new/part-01.jsonl are both shard 1/2: leave one out, or --allow-duplicates takes the last"
    assert why_not(*parts, newer) == said
    assert "part-02.jsonl and part-02.jsonl are both shard 2/2" in why_not(*parts, parts[1])
    merge([*parts, str(newer)], "out.jsonl", "jsonl", allow_duplicates=True)
    write(Path("whole.jsonl"), [cat_row(row.path, "new" if row.path in Shard(1, 2) else "cat") for row in TWENTY])
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_parts_made_differently_are_refused(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("other").mkdir()
    of_three = write_shard(Path("other"), TWENTY, Shard(3, 3))
    assert "part-01.jsonl is shard 1/2, other/part-03.jsonl is 3/3: merge shards with the same count" in why_not(
        *parts, of_three
    )
    unsharded = write_part(Path("all.jsonl"), TWENTY)
    assert why_not(unsharded, *parts) == "part-01.jsonl is shard 1/2, other parts are not shards: merge one kind"
    other = write_shard(Path("other"), TWENTY, Shard(2, 2), threshold=0.5)
    said = "part-01.jsonl was made with --threshold 0.0, other/part-02.jsonl with --threshold 0.5: "
    said += "merge parts that were made with the same options"
    assert why_not(parts[0], other) == said
    assert why_not(parts[0], other, gaps=True, duplicates=True) == said
    newer = write_shard(Path("other"), TWENTY, Shard(2, 2), column="url")
    assert "was made without --column, other/part-02.jsonl with --column url" in why_not(parts[0], newer)


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("groups", None, "22 of sha256 a604b3a6ed43cf1c", "a.jsonl was made without --groups, b.jsonl with --groups"),
        ("groups", "22 of sha256 a604b3a6ed43cf1c", None, "a.jsonl was made with --groups, b.jsonl without --groups"),
        ("groups", "9 of sha256 0", "9 of sha256 1", "a.jsonl was made with --groups, b.jsonl with other --groups"),
        ("labels", "9 of sha256 0", "9 of sha256 1", "a.jsonl was made with --labels, b.jsonl with other --labels"),
        (
            "revision",
            "5e1f",
            "0a2b",
            "a.jsonl was made with weights of the model, b.jsonl with other weights of the model",
        ),
    ],
)
def test_digests_of_unlike_parts_are_not_shown(
    here: Path, name: str, before: str | None, after: str | None, said: str
) -> None:
    for part, value in (("a.jsonl", before), ("b.jsonl", after)):
        made_with: dict[str, Any] = {name: value}
        write_part(Path(part), [cat_row(part)], **made_with)
    assert why_not("a.jsonl", "b.jsonl") == f"{said}: merge parts that were made with the same options"


def test_inputs_that_changed_between_the_parts_are_refused(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    [first, _] = write_shards(here, TWENTY, 2)
    more = write_shard(here, [cat_row("0"), *TWENTY], Shard(2, 2))
    said = "the inputs changed between the parts: part-01.jsonl counts 20, part-02.jsonl counts 21: make the parts"
    assert why_not(first, more).startswith(said)
    others = write_shard(here, [cat_row(f"{number}.png") for number in range(20)], Shard(2, 2))
    assert why_not(first, others).startswith("the inputs changed between the parts, or --limit left some out (of 20 ")
    merge([first, str(others)], "out.jsonl", "jsonl", allow_gaps=True)
    assert len(paths_in(Path("out.jsonl"))) == sum(
        f"{number}.{kind}" in Shard(index, 2) for kind, index in (("jpg", 1), ("png", 2)) for number in range(20)
    )
    assert not caplog.records


@pytest.mark.parametrize("format_name", FORMATS)
def test_changed_part_is_refused(here: Path, format_name: str) -> None:
    parts = [Path(name) for name in write_shards(here, TWENTY, 2, format_name)]
    rows = [row for row in TWENTY if row.path in Shard(2, 2)]
    for changed in (rows[1:], rows[:-1], [], [*rows, cat_row("more")]):
        write(parts[1], changed, format_name)
        said = f"part-02.{format_name} has more or fewer rows than when it was written: make it again"
        assert why_not(*parts) == said
    write_shard(here, TWENTY, Shard(2, 2), format_name, kept=[cat_row("old"), cat_row("older")])
    write(parts[1], [cat_row("old")], format_name)
    assert why_not(*parts) == said


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"positions": "garbage!"},
        {"positions": packed([1])[:-4]},
        {"positions": None},
        {"kept_before": -1},
        {"index": 3},
        {"count": "many"},
        [],
    ],
)
def test_invalid_meta_of_a_part_is_refused(here: Path, said: object) -> None:
    parts = [Path(name) for name in write_shards(here, TWENTY, 2)]
    meta = json.loads(Path("part-02.jsonl.meta.json").read_text())
    shard = {**meta["shard"], **said} if isinstance(said, dict) and said else said
    write_meta("part-02.jsonl.meta.json", meta | {"shard": shard})
    assert why_not(*parts) == (
        "part-02.jsonl.meta.json does not say where the rows of part-02.jsonl belong: make it again"
    )


def test_files_that_are_not_parts_are_reported(here: Path) -> None:
    [first, _] = write_shards(here, TWENTY, 2)
    assert why_not(first, "nothing.jsonl") == "nothing.jsonl is not there: check its name, or mount its disk"
    write(Path("bare.jsonl"), TWENTY)
    said = "bare.jsonl.meta.json is missing, so nobody can tell what made bare.jsonl: restore it, or run predict again"
    assert why_not("bare.jsonl") == said
    Path("bare.jsonl.meta.json").write_text("{")
    assert why_not("bare.jsonl") == said
    Path("features.parquet").write_bytes(b"PAR1")
    write_meta("features.parquet.meta.json", {"made_with": {"model": "m", "normalize": False, "format": "parquet"}})
    said = "features.parquet has features, which embed wrote: merge takes what predict wrote"
    assert why_not(first, "features.parquet") == said
    meta = {"made_with": {**MADE_WITH, "format": "jsonl"}, "options": {"shard": "1/2", "watch": False}}
    write_meta("bare.jsonl.meta.json", meta)
    assert why_not("bare.jsonl").startswith("bare.jsonl is shard 1/2, but of an older version")
    write_part(Path("rows.csv"), TWENTY, format_name="csv")
    Path("rows.csv").write_text("something else")
    assert "rows.csv is not what predict writes" in why_not("rows.csv")


def test_unfinished_part_is_reported(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    said = "part-02.jsonl is not finished: finish it with predict --resume first"
    for left in ("part-02.jsonl.partial", "part-02.jsonl.partial.meta.json"):
        Path(left).write_text("")
        assert why_not(*parts) == said
        os.unlink(left)
    shutil.move("part-02.jsonl", "part-02.jsonl.partial")
    assert why_not(*parts) == why_not(parts[0], "part-02.jsonl.partial") == said


def test_globs_and_folders_are_expanded(here: Path) -> None:
    Path("parts").mkdir()
    parts = write_shards(Path("parts"), TWENTY, 3)
    Path("parts/notes.txt").write_text("mine")
    assert find_parts(["parts/part-*"]) == find_parts(["parts/"]) == parts
    assert find_parts([*parts, f"{parts[0]}.meta.json"]) == parts
    Path("parts/part-04.jsonl.partial.meta.json").write_text("{}")
    assert find_parts(["parts"]) == [*parts, "parts/part-04.jsonl"]
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="nothing matches x"):
        find_parts(["x*"])
    with pytest.raises(UsageError, match="empty has no rows that predict wrote"):
        find_parts(["empty"])


def test_output_folder_is_one_part(here: Path) -> None:
    Path("labels").mkdir()
    for number, rows in enumerate((TWENTY[:15], TWENTY[15:])):
        write(Path(f"labels/part-0000{number}.parquet"), rows, "parquet")
    parts = [{"name": "part-00000.parquet", "rows": 15}, {"name": "part-00001.parquet", "rows": 5}]
    manifest = {"run": "0", "made_with": {**MADE_WITH, "format": "parquet"}, "parts": parts}
    Path("labels/_manifest.json").write_text(json.dumps(manifest))
    assert find_parts(["labels"]) == ["labels"]
    write_part(Path("more.jsonl"), [cat_row("more")])
    merge(["labels", "more.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == [*(row.path for row in TWENTY), "more"]
