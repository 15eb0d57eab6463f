"""`merge`: files that shards wrote become the one that a single run would have written."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.discovery.filters import Shard
from dinoclassify.errors import UsageError
from dinoclassify.results.merge.merge import merge
from dinoclassify.results.reader import read_meta, read_predictions
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.fingerprint import is_appended, write_meta
from tests.helpers.memory import measured
from tests.helpers.parts import (
    FORMATS,
    MADE_WITH,
    TWENTY,
    cat_row,
    paths_in,
    why_not,
    write,
    write_part,
    write_shard,
    write_shards,
)

names = st.text(st.sampled_from('ab/,"\n=é\udce9'), min_size=1, max_size=4)


answers = st.one_of(
    st.builds(
        lambda score, label: {"status": "ok", "top": (Label(label, 7, score), Label("=x, y", 0, 0.0))},
        st.floats(0, 1),
        st.sampled_from(["cat", "'tis", 'a "dog", maybe']),
    ),
    st.sampled_from([{"status": "failed", "failure": Failure("truncated", "it ends\rtoo, early")}]),
)


@given(
    paths=st.lists(names, max_size=25),
    made=st.data(),
    count=st.integers(1, 5),
    part_format=st.sampled_from(FORMATS),
    format_name=st.sampled_from(FORMATS),
)
def test_merged_parts_equal_the_file_of_a_single_run(
    paths: list[str], made: st.DataObject, count: int, part_format: str, format_name: str
) -> None:
    if not part_format.startswith("jsonl") and format_name.startswith("jsonl"):  # which has such paths exactly
        paths = [path.replace("\udce9", "e") for path in paths]
    rows = [Prediction(path, size=len(path), mtime_ns=2**60, **made.draw(answers)) for path in paths]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "whole", rows, format_name)
        parts = write_shards(folder, rows, count, part_format)
        made.draw(st.randoms()).shuffle(parts)
        merged = merge(parts, str(folder / "merged"), format_name)
        if format_name in ("parquet", "sqlite"):  # which also carry what they were merged from
            assert list(read_predictions(f"{folder}/merged")) == list(read_predictions(f"{folder}/whole"))
            assert read_meta(f"{folder}/merged") == merged.meta
            (folder / "merged.meta.json").unlink()
            assert read_meta(f"{folder}/merged") == merged.meta
        else:
            assert (folder / "merged").read_bytes() == (folder / "whole").read_bytes()
        failed = sum(row.status == "failed" for row in rows)
        assert merged.statuses == {"ok": len(rows) - failed, "failed": failed} or failed in (0, len(rows))
        assert sum(merged.statuses.values()) == len(rows)


def test_rows_kept_from_earlier_runs_come_first(here: Path) -> None:
    kept = {1: [cat_row("old/b"), cat_row("old/a"), cat_row("old/a")], 2: [], 3: [cat_row("old/c")]}
    for index, rows in kept.items():
        write_shard(here, TWENTY, Shard(index, 3), kept=rows)
    merge(["part-01.jsonl", "part-02.jsonl", "part-03.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == ["old/b", "old/a", "old/a", "old/c", *(row.path for row in TWENTY)]


def test_stale_row_of_another_shard_is_a_duplicate(here: Path) -> None:
    """This happens if a part was begun with another number of shards and then resumed."""
    [stale] = [row for row in TWENTY if row.path in Shard(1, 2)][:1]
    parts = [
        write_shard(here, TWENTY, Shard(1, 2)),
        write_shard(here, TWENTY, Shard(2, 2), kept=[cat_row(stale.path, "stale"), cat_row("old")]),
    ]
    assert why_not(*parts).startswith(f"{stale.path} is in part-02.jsonl and part-01.jsonl: leave a part out, or")
    merge(list(map(str, parts)), "out.jsonl", "jsonl", allow_duplicates=True)
    write(Path("whole.jsonl"), [cat_row("old"), *TWENTY])
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_parts_without_shards_are_concatenated(here: Path) -> None:
    twice = [cat_row("x"), cat_row("y"), cat_row("x")]
    write_part(Path("b.csv"), [cat_row("z")], format_name="csv")
    write_part(Path("a.jsonl"), twice)
    merge(["b.csv", "a.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == ["z", "x", "y", "x"]


def test_meta_has_what_all_parts_agree_on(here: Path) -> None:
    parts = write_shards(here, [*TWENTY, Prediction("bad", "failed", failure=Failure("truncated", "short"))], 2)
    for number, part in enumerate(parts):
        meta = json.loads(Path(f"{part}.meta.json").read_text())
        said = {"device": f"cuda:{number}", "runtime": "torch", "options": {"top_k": 2, "output": part}, "seconds": 3}
        said["working_folder"] = "/photos"
        write_meta(f"{part}.meta.json", meta | said)
    merged = merge(parts, "out.csv", "csv")
    meta = json.loads(Path("out.csv.meta.json").read_text())
    assert meta == merged.meta
    assert meta.pop("created")
    assert meta == {
        "made_with": {**MADE_WITH, "format": "csv"},
        "adds_to_output": False,
        "runtime": "torch",
        "precision": None,
        "model": None,
        "working_folder": "/photos",
        "versions": None,
        "options": {"top_k": 2},
        "counts": {"ok": 20, "uncertain": 0, "failed": 1},
        "errors": {"truncated": 1},
        "merged_from": parts,
    }


@pytest.mark.parametrize("said", [{"options": {"watch": True, "shard": "1/2", "top_k": 2}}, {"appended": True}])
def test_merged_file_of_appended_parts_is_not_appended(here: Path, said: dict[str, object]) -> None:
    part = write_part(here / "watched.jsonl", [cat_row("a.jpg"), cat_row("a.jpg", "fox"), cat_row("b.jpg")])
    meta = json.loads(Path(f"{part}.meta.json").read_text())
    write_meta(f"{part}.meta.json", meta | said)
    merged = merge([str(part)], "out.jsonl", "jsonl")
    labels = [(row.path, row.top[0].label) for row in read_predictions("out.jsonl")]
    assert labels == [("a.jpg", "fox"), ("b.jpg", "cat")]
    assert not is_appended(merged.meta)
    assert merged.meta.get("options") in (None, {"top_k": 2})
    merge(["out.jsonl"], "again.jsonl", "jsonl")


def test_output_is_complete_or_unchanged(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    write_part(Path("out.jsonl"), [cat_row("old")], threshold=0.9)
    before = sorted(os.listdir()), Path("out.jsonl").read_bytes(), Path("out.jsonl.meta.json").read_bytes()
    write(Path(parts[1]), TWENTY)
    with pytest.raises(UsageError, match="more or fewer rows"):
        merge(parts, "out.jsonl", "jsonl")
    assert before == (sorted(os.listdir()), Path("out.jsonl").read_bytes(), Path("out.jsonl.meta.json").read_bytes())
    write_shard(here, TWENTY, Shard(2, 2))
    merge(parts, "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == [row.path for row in TWENTY]
    assert json.loads(Path("out.jsonl.meta.json").read_text())["made_with"]["threshold"] == 0.0


def test_memory_does_not_grow_with_the_rows(here: Path) -> None:
    allowed = peak = 0
    for count in (1000, 4000):
        parts = write_shards(here, [cat_row(f"{number:0100}.jpg") for number in range(count)], 3)
        allowed = peak + 3000 * 10
        peak, _ = measured(partial(merge, parts, "out.jsonl", "jsonl"), below=allowed)
    assert peak < allowed


def test_more_parts_than_open_files_allowed(here: Path) -> None:
    parts = write_shards(here, [cat_row(f"{number}.jpg") for number in range(600)], 150)
    program = (
        "import resource, sys; from dinoclassify.results.merge.merge import merge\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (120, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "merge(sys.argv[1:], 'out.jsonl', 'jsonl')"
    )
    subprocess.run([sys.executable, "-c", program, *parts], check=True, timeout=200)
    assert paths_in(Path("out.jsonl")) == [f"{number}.jpg" for number in range(600)]


def test_too_many_parts_for_the_system_limit_are_reported(here: Path) -> None:
    write_shards(here, TWENTY, 150)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))\n"
        "from dinoclassify.errors import UsageError\n"
        "from dinoclassify.results.merge.merge import merge\n"
        "try: merge(sys.argv[1:], 'out.jsonl', 'jsonl')\n"
        "except UsageError as error: print(error)"
    )
    parts = sorted(map(str, Path().glob("part-*.jsonl")))
    said = subprocess.run([sys.executable, "-c", program, *parts], capture_output=True, text=True, timeout=200)
    assert said.stdout == "so many parts need 550 open files: allow them with ulimit -n 550\n", said.stderr
    assert not Path("out.jsonl").exists()


def test_a_part_that_changes_while_it_is_read_ends_the_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were not there when the parts were compared would be left out without a word."""
    first = write_part(tmp_path / "a.jsonl", [cat_row("a"), cat_row("b")])
    second = write_part(tmp_path / "b.jsonl", [cat_row("b"), cat_row("c")])

    def rewrite(rows: Iterator[Prediction]) -> Iterator[Prediction]:
        write(second, [cat_row("b"), cat_row("new")])
        yield from rows

    output = tmp_path / "all.jsonl"
    with pytest.raises(UsageError, match=r"b\.jsonl changed while it was read"):
        merge([str(first), str(second)], str(output), "jsonl", allow_duplicates=True, progress=rewrite)
    assert not output.exists()
