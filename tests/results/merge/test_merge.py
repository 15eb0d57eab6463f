"""`merge`: files that shards wrote become the one that a single run would have written, or it is said why not."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify import cli
from dinoclassify.discovery.filters import Shard
from dinoclassify.discovery.shard_positions import PackedPositions, unpacked
from dinoclassify.errors import UsageError
from dinoclassify.results.merge.merge import merge
from dinoclassify.results.merge.parts import find_parts
from dinoclassify.results.reader import read_meta, read_predictions
from dinoclassify.storage.lock import locked
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.fingerprint import is_appended, write_meta
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.staging import stage_of
from tests.conftest import PHOTOS
from tests.helpers.memory import measured
from tests.helpers.servers import store_server

Run = Callable[..., tuple[int, str, str]]

FORMATS = ["csv", "tsv", "excel", "jsonl", "csv.gz", "jsonl.gz", "parquet", "sqlite"]
MORE = ["out.parquet", "out.db"]
MADE_WITH = {"model": "m", "revision": "1", "labels": "2 of sha256 0", "groups": None, "top-k": 2, "threshold": 0.0}


def packed(positions: Sequence[int]) -> str:
    some = PackedPositions()
    for position in positions:
        some.add(position)
    return some.packed()


def row_of(path: str, label: str = "cat") -> Prediction:
    return Prediction(path, "ok", (Label(label, 1, 0.75), Label("dog", 0, 0.25)), size=1, mtime_ns=2)


def write(path: Path, rows: Sequence[Prediction], format_name: str = "jsonl") -> None:
    """A file of rows, and nothing else."""
    row_format = open_format(format_name, 2)
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        row_format.write(file, rows, {})


def write_part(
    path: Path,
    rows: Sequence[Prediction],
    shard: Mapping[str, object] | None = None,
    format_name: str = "jsonl",
    **made_with: object,
) -> Path:
    """A file of rows, as a run leaves it."""
    write(path, rows, format_name)
    meta: dict[str, object] = {"made_with": {**MADE_WITH, "format": format_name, **made_with}}
    write_meta(f"{path}.meta.json", meta | ({"shard": shard} if shard is not None else {}))
    return path


def write_shard(
    folder: Path,
    rows: Sequence[Prediction],
    shard: Shard,
    format_name: str = "jsonl",
    *,
    kept: Sequence[Prediction] = (),
    **made_with: object,
) -> Path:
    """What a run leaves that takes of all ``rows`` those of a shard, and has ``kept`` others."""
    mine = [(position, row) for position, row in enumerate(rows) if row.path in shard]
    said = {
        "index": shard.index,
        "count": shard.count,
        "inputs": len(rows),
        "kept_before": len(kept),
        "positions": packed([position for position, _ in mine]),
    }
    path = folder / f"part-{shard.index:02}.{format_name}"
    return write_part(path, [*kept, *(row for _, row in mine)], said, format_name, **made_with)


def write_shards(folder: Path, rows: Sequence[Prediction], count: int, format_name: str = "jsonl") -> list[str]:
    return [str(write_shard(folder, rows, Shard(index, count), format_name)) for index in range(1, count + 1)]


def paths_in(path: Path) -> list[str]:
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def why_not(*parts: Path | str, out: Path | str = "out.jsonl", gaps: bool = False, duplicates: bool = False) -> str:
    """Why they are not merged."""
    with pytest.raises(UsageError) as raised:
        merge(list(map(str, parts)), str(out), "jsonl", allow_gaps=gaps, allow_duplicates=duplicates)
    assert not Path(out).exists()
    return str(raised.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command: its exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["merge", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


TWENTY = [row_of(f"{number}.jpg") for number in range(20)]


@given(st.lists(st.integers(0, 2**40), unique=True))
def test_positions_come_back(positions: list[int]) -> None:
    assert list(unpacked(packed(sorted(positions)))) == sorted(positions)


@pytest.mark.parametrize(("shards", "most"), [(1, 0.01), (16, 1.0), (1000, 2.25)])
def test_a_position_takes_about_a_byte(shards: int, most: float) -> None:
    chance = random.Random(shards)
    gaps = [1 + int(chance.expovariate(1 / shards)) if shards > 1 else 1 for _ in range(20_000)]
    assert len(packed(list(itertools.accumulate(gaps)))) < most * len(gaps)


def test_positions_are_packed_as_they_come_and_read_as_they_are_needed() -> None:
    def pack() -> PackedPositions:
        some = PackedPositions()
        for position in range(0, 400_000, 2):
            some.add(position)
        assert list(itertools.islice(unpacked(some.packed()), 3)) == [0, 2, 4]
        return some

    most, some = measured(pack)
    assert most < 1_000_000
    some.add(400_000)
    assert sum(1 for _ in unpacked(some.packed())) == 200_001


def test_what_is_no_positions_is_refused() -> None:
    text = packed(range(0, 3000, 3))
    for garbage in (
        "",
        "x",
        "ä",
        "AAAA",
        text[:-8],
        text[: len(text) // 2 // 4 * 4],
        text + text,
        f"{text[:8]}!{text[8:]}",
    ):
        with pytest.raises(ValueError):
            list(unpacked(garbage))
    with pytest.raises(ValueError, match="3 comes after 3"):
        packed([3, 3])


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
def test_the_parts_become_what_a_single_run_would_have_written(
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


def test_rows_that_were_kept_come_first_part_by_part(here: Path) -> None:
    kept = {1: [row_of("old/b"), row_of("old/a"), row_of("old/a")], 2: [], 3: [row_of("old/c")]}
    for index, rows in kept.items():
        write_shard(here, TWENTY, Shard(index, 3), kept=rows)
    merge(["part-01.jsonl", "part-02.jsonl", "part-03.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == ["old/b", "old/a", "old/a", "old/c", *(row.path for row in TWENTY)]


def test_a_row_of_another_shard_that_was_kept_is_there_twice(here: Path) -> None:
    """As it is when a part was once made with another N, and then gone on with."""
    [stale] = [row for row in TWENTY if row.path in Shard(1, 2)][:1]
    parts = [
        write_shard(here, TWENTY, Shard(1, 2)),
        write_shard(here, TWENTY, Shard(2, 2), kept=[row_of(stale.path, "stale"), row_of("old")]),
    ]
    assert why_not(*parts).startswith(f"{stale.path} is in part-02.jsonl and part-01.jsonl: leave a part out, or")
    merge(list(map(str, parts)), "out.jsonl", "jsonl", allow_duplicates=True)
    write(Path("whole.jsonl"), [row_of("old"), *TWENTY])
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_parts_that_are_no_shards_come_one_behind_the_other(here: Path) -> None:
    twice = [row_of("x"), row_of("y"), row_of("x")]
    write_part(Path("b.csv"), [row_of("z")], format_name="csv")
    write_part(Path("a.jsonl"), twice)
    merge(["b.csv", "a.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == ["z", "x", "y", "x"]


def test_a_path_in_two_parts_is_refused_or_the_last_one_counts(here: Path) -> None:
    write_part(Path("a.jsonl"), [row_of("x", "old"), row_of("y"), row_of("x", "older"), row_of("w", "old")])
    write_part(Path("b.jsonl"), [row_of("z"), row_of("x", "new"), row_of("x", "newer")])
    write_part(Path("c.jsonl"), [row_of("w", "new")])
    said = why_not("a.jsonl", "b.jsonl", "c.jsonl")
    assert said.startswith(
        "w is in a.jsonl and c.jsonl, and so are 1 more in two parts: leave a part out, or --allow-d"
    )
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


def test_missing_parts_are_refused_or_said(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = write_shards(here, TWENTY, 7)
    some = [parts[0], parts[2], parts[5], parts[6]]
    cure = "name all, or --allow-gaps merges what there is"
    assert why_not(*some) == f"part 2 of 7 is missing, and 2 more: {cure}"
    assert why_not(*parts[:6]) == f"part 7 of 7 is missing: {cure}"
    merge(some, "out.jsonl", "jsonl", allow_gaps=True)
    there = [row.path for row in TWENTY if any(row.path in Shard(index, 7) for index in (1, 3, 6, 7))]
    assert paths_in(Path("out.jsonl")) == there
    assert [record.message for record in caplog.records] == ["part 2 of 7 is missing, and 2 more"]


def test_a_shard_that_is_there_twice_is_refused_or_the_last_one_counts(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("new").mkdir()
    newer = write_shard(Path("new"), [row_of(row.path, "new") for row in TWENTY], Shard(1, 2))
    said = "part-01.jsonl and new/part-01.jsonl are both shard 1/2: leave one out, or --allow-duplicates takes the last"
    assert why_not(*parts, newer) == said
    assert "part-02.jsonl and part-02.jsonl are both shard 2/2" in why_not(*parts, parts[1])
    merge([*parts, str(newer)], "out.jsonl", "jsonl", allow_duplicates=True)
    write(Path("whole.jsonl"), [row_of(row.path, "new" if row.path in Shard(1, 2) else "cat") for row in TWENTY])
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_parts_that_do_not_go_together_are_refused(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("other").mkdir()
    of_three = write_shard(Path("other"), TWENTY, Shard(3, 3))
    assert "part-01.jsonl is shard 1/2, other/part-03.jsonl is 3/3: merge those of one N" in why_not(*parts, of_three)
    unsharded = write_part(Path("all.jsonl"), TWENTY)
    assert why_not(unsharded, *parts) == "part-01.jsonl is shard 1/2, other parts are of none: merge one kind"
    other = write_shard(Path("other"), TWENTY, Shard(2, 2), threshold=0.5)
    said = "part-01.jsonl was made with threshold 0.0, other/part-02.jsonl with threshold 0.5: merge what is made alike"
    assert why_not(parts[0], other) == said
    assert why_not(parts[0], other, gaps=True, duplicates=True) == said
    newer = write_shard(Path("other"), TWENTY, Shard(2, 2), column="url")
    assert "was made without column, other/part-02.jsonl with column url" in why_not(parts[0], newer)


def test_inputs_that_changed_between_the_parts_are_refused(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    [first, _] = write_shards(here, TWENTY, 2)
    more = write_shard(here, [row_of("0"), *TWENTY], Shard(2, 2))
    said = "the inputs changed between the parts: part-01.jsonl is of 20, part-02.jsonl of 21: make the parts again, or"
    assert why_not(first, more).startswith(said)
    others = write_shard(here, [row_of(f"{number}.png") for number in range(20)], Shard(2, 2))
    assert why_not(first, others).startswith("the inputs changed between the parts, or --limit left some out (of 20 ")
    merge([first, str(others)], "out.jsonl", "jsonl", allow_gaps=True)
    assert len(paths_in(Path("out.jsonl"))) == sum(
        f"{number}.{kind}" in Shard(index, 2) for kind, index in (("jpg", 1), ("png", 2)) for number in range(20)
    )
    assert not caplog.records


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_part_that_was_changed_is_refused(here: Path, format_name: str) -> None:
    parts = [Path(name) for name in write_shards(here, TWENTY, 2, format_name)]
    rows = [row for row in TWENTY if row.path in Shard(2, 2)]
    for changed in (rows[1:], rows[:-1], [], [*rows, row_of("more")]):
        write(parts[1], changed, format_name)
        said = f"part-02.{format_name} has more or fewer rows than when it was written: make it again"
        assert why_not(*parts) == said
    write_shard(here, TWENTY, Shard(2, 2), format_name, kept=[row_of("old"), row_of("older")])
    write(parts[1], [row_of("old")], format_name)
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
def test_a_meta_that_makes_no_sense_is_refused(here: Path, said: object) -> None:
    parts = [Path(name) for name in write_shards(here, TWENTY, 2)]
    meta = json.loads(Path("part-02.jsonl.meta.json").read_text())
    shard = {**meta["shard"], **said} if isinstance(said, dict) and said else said
    write_meta("part-02.jsonl.meta.json", meta | {"shard": shard})
    assert why_not(*parts) == (
        "part-02.jsonl.meta.json does not say where the rows of part-02.jsonl belong: make it again"
    )


def test_what_is_no_part_is_said(here: Path) -> None:
    [first, _] = write_shards(here, TWENTY, 2)
    assert why_not(first, "nothing.jsonl") == "nothing.jsonl is not there: check its name, or mount its disk"
    write(Path("bare.jsonl"), TWENTY)
    said = "there is no bare.jsonl.meta.json that says what made bare.jsonl: merge takes what predict wrote"
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


def test_a_part_that_is_not_finished_is_said(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    said = "part-02.jsonl is not finished: go on with it by predict --resume first"
    for left in ("part-02.jsonl.partial", "part-02.jsonl.partial.meta.json"):
        Path(left).write_text("")
        assert why_not(*parts) == said
        os.unlink(left)
    shutil.move("part-02.jsonl", "part-02.jsonl.partial")
    assert why_not(*parts) == why_not(parts[0], "part-02.jsonl.partial") == said


def test_globs_and_folders_are_looked_into(here: Path) -> None:
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


def test_a_folder_of_parts_is_one_part(here: Path) -> None:
    Path("labels").mkdir()
    for number, rows in enumerate((TWENTY[:15], TWENTY[15:])):
        write(Path(f"labels/part-0000{number}.parquet"), rows, "parquet")
    parts = [{"name": "part-00000.parquet", "rows": 15}, {"name": "part-00001.parquet", "rows": 5}]
    manifest = {"run": "0", "made_with": {**MADE_WITH, "format": "parquet"}, "parts": parts}
    Path("labels/_manifest.json").write_text(json.dumps(manifest))
    assert find_parts(["labels"]) == ["labels"]
    write_part(Path("more.jsonl"), [row_of("more")])
    merge(["labels", "more.jsonl"], "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == [*(row.path for row in TWENTY), "more"]


def test_the_meta_says_what_is_the_same_in_all_parts(here: Path) -> None:
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
def test_all_rows_of_a_merged_file_count_also_where_its_parts_were_appended(
    here: Path, said: dict[str, object]
) -> None:
    part = write_part(here / "watched.jsonl", [row_of("a.jpg"), row_of("a.jpg", "fox"), row_of("b.jpg")])
    meta = json.loads(Path(f"{part}.meta.json").read_text())
    write_meta(f"{part}.meta.json", meta | said)
    merged = merge([str(part)], "out.jsonl", "jsonl")
    labels = [(row.path, row.top[0].label) for row in read_predictions("out.jsonl")]
    assert labels == [("a.jpg", "fox"), ("b.jpg", "cat")]
    assert not is_appended(merged.meta)
    assert merged.meta.get("options") in (None, {"top_k": 2})
    merge(["out.jsonl"], "again.jsonl", "jsonl")


def test_an_output_is_whole_or_what_it_was(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    write_part(Path("out.jsonl"), [row_of("old")], threshold=0.9)
    before = sorted(os.listdir()), Path("out.jsonl").read_bytes(), Path("out.jsonl.meta.json").read_bytes()
    write(Path(parts[1]), TWENTY)
    with pytest.raises(UsageError, match="more or fewer rows"):
        merge(parts, "out.jsonl", "jsonl")
    assert before == (sorted(os.listdir()), Path("out.jsonl").read_bytes(), Path("out.jsonl.meta.json").read_bytes())
    write_shard(here, TWENTY, Shard(2, 2))
    merge(parts, "out.jsonl", "jsonl")
    assert paths_in(Path("out.jsonl")) == [row.path for row in TWENTY]
    assert json.loads(Path("out.jsonl.meta.json").read_text())["made_with"]["threshold"] == 0.0


def test_an_unfinished_run_of_the_output_is_not_lost(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("out.jsonl.partial").write_text("")
    assert "out.jsonl.partial is of a run that was not finished: go on with it by" in why_not(*parts)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (".partial", "out.jsonl.partial is of a run that was not finished: go on with it by predict --resume"),
        ("", "is finished, but not sent to s3://bucket/out.jsonl: the command that made it sends it with --resume"),
    ],
)
def test_rows_that_wait_for_their_object_are_not_lost(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, left: str, message: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("state"))
    with store_server(monkeypatch) as store:
        store.put("others", b"")
        waiting = write_part(Path(stage_of("s3://bucket/out.jsonl") + left), TWENTY)
        before = waiting.read_bytes()
        code, _, stderr = run(*write_shards(here, TWENTY, 2), "-o", "s3://bucket/out.jsonl")
        assert code == 2
        assert message in stderr
        assert waiting.read_bytes() == before
        assert store.keys() == ["others"]


def test_a_merged_file_that_could_not_be_sent_is_made_again(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("state"))
    parts = write_shards(here, TWENTY, 2)
    with store_server(monkeypatch) as store:
        store.put("others", b"")
        store.faults.only, store.faults.status, store.faults.share = "PUT", "403 Forbidden", 1.0
        code, _, stderr = run(*parts, "-o", "s3://bucket/out.jsonl")
        assert code == 6, stderr
        store.faults.share = 0.0
        assert run(*parts, "-o", "s3://bucket/out.jsonl")[0] == 0
        assert store.get("out.jsonl").count(b"\n") == 20


def test_memory_does_not_grow_with_the_rows(here: Path) -> None:
    peaks = []
    for count in (1000, 4000):
        parts = write_shards(here, [row_of(f"{number:0100}.jpg") for number in range(count)], 3)
        peaks.append(measured(partial(merge, parts, "out.jsonl", "jsonl"))[0])
    assert peaks[1] < peaks[0] + 3000 * 10


def test_more_parts_than_files_may_be_open(here: Path) -> None:
    parts = write_shards(here, [row_of(f"{number}.jpg") for number in range(600)], 150)
    program = (
        "import resource, sys; from dinoclassify.results.merge.merge import merge\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (120, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "merge(sys.argv[1:], 'out.jsonl', 'jsonl')"
    )
    subprocess.run([sys.executable, "-c", program, *parts], check=True, timeout=200)
    assert paths_in(Path("out.jsonl")) == [f"{number}.jpg" for number in range(600)]


def test_more_parts_than_the_system_lets_be_open_is_said(here: Path) -> None:
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


def test_the_command_says_what_it_did(here: Path, run: Run) -> None:
    rows = [*TWENTY, Prediction("bad", "failed", failure=Failure("truncated", "short"))]
    parts = write_shards(here, rows, 3)
    said = "dinoclassify: 21 images: 20 ok, 1 failed (1 truncated) of 3 parts"
    assert run(*parts, "-o", "out.csv") == (0, "", f"{said} -> out.csv\n")
    write(Path("whole.csv"), rows, "csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert run("part-*.jsonl", "-o", "again.csv", "-q") == (0, "", "")
    write(Path("whole.jsonl"), rows)
    assert run(*parts, "-f", "jsonl") == (0, Path("whole.jsonl").read_text(), f"{said}\n")
    assert run(*parts, "-o", "safe.csv", "--excel-safe", "-q") == (0, "", "")
    assert json.loads(Path("safe.csv.meta.json").read_text())["made_with"]["format"] == "excel"


def test_the_command_says_what_is_wrong(here: Path, run: Run) -> None:
    parts = write_shards(here, TWENTY, 3)
    cure = "See: dinoclassify merge --help"
    assert run("-o", "out.csv") == (2, "", f"dinoclassify: name the parts: files that predict wrote. {cure}\n")
    assert run(*parts[:2], "-o", "out.csv")[0] == 2
    code, _, stderr = run(*parts[:2], "-o", "out.csv", "--allow-gaps")
    assert (code, stderr.splitlines()[0]) == (0, "dinoclassify: part 3 of 3 is missing")
    with locked("out.csv", wait=False):
        assert run(*parts, "-o", "out.csv")[0] == 11
    assert run(*parts, "-o", "no/out.csv")[0] == 6
    assert run(*parts, "-o", "out.jpg")[0] == 2
    code, _, stderr = run(parts[0], parts[0], *parts[1:], "-o", "out.csv", "--allow-duplicates")
    assert (code, stderr.splitlines()[-1]) == (0, "dinoclassify: 20 images: 20 ok of 4 parts -> out.csv")


def test_no_part_is_written_over(here: Path, run: Run) -> None:
    parts = write_shards(here, TWENTY, 2)
    os.symlink(f"{parts[1]}.meta.json", "link")
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for output in (parts[0], "link"):
        code, _, stderr = run(*parts, "-o", output, "-f", "jsonl")
        assert (code, stderr) == (2, f"dinoclassify: {output} would be written over a part: choose another name\n")
    for output in (f"{parts[1]}.meta.json", f"./{parts[1]}.partial"):
        assert run(*parts, "-o", output, "-f", "jsonl")[0] == 2
    code, _, stderr = run(".", "-o", "out.jsonl")
    assert (code, stderr) == (2, "dinoclassify: out.jsonl would be one of the parts in .: choose another folder\n")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_parts_and_output_may_be_in_a_store(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with store_server(monkeypatch) as store:
        for name in write_shards(here, TWENTY, 2):
            for file in (name, f"{name}.meta.json"):
                store.put(f"parts/{file}", Path(file).read_bytes())
        urls = [f"s3://bucket/parts/part-0{index}.jsonl" for index in (1, 2)]
        code, _, stderr = run(*urls, "-o", "s3://bucket/out.jsonl")
        assert (code, stderr) == (0, "dinoclassify: 20 images: 20 ok of 2 parts -> s3://bucket/out.jsonl\n")
        write(Path("whole.jsonl"), TWENTY)
        assert store.get("out.jsonl") == Path("whole.jsonl").read_bytes()
        assert json.loads(store.get("out.jsonl.meta.json"))["merged_from"] == urls


@pytest.mark.parametrize("name", ["out.jsonl", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_predict_goes_on_with_a_merged_file(
    here: Path, tiny: str, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(PHOTOS, "photos")
    arguments = ["predict", "photos", "-m", tiny, "-k", "2"]
    assert cli.run([*arguments, "-o", "whole.csv", "-q"]) == 0
    rows, meta = list(read_predictions("whole.csv")), read_meta("whole.csv")
    parts = [str(write_shard(here, rows, Shard(index, 3), "csv", **meta["made_with"])) for index in (1, 2, 3)]
    made = {".jsonl": "jsonl", ".parquet": "parquet", ".db": "sqlite"}[Path(name).suffix]
    merge(parts, name, made)
    before = Path(name).read_bytes()
    capfd.readouterr()
    assert cli.run([*arguments, "-o", name, "--resume"]) == 0
    assert "5 images: 5 ok; 5 kept" in capfd.readouterr().err
    assert Path(name).read_bytes() == before
    shutil.copy("photos/coffee.jpg", "photos/more.jpg")
    assert cli.run([*arguments, "-o", name, "--resume"]) == 0
    assert "6 images: 6 ok; 5 kept, 1 new" in capfd.readouterr().err
    assert cli.run([*arguments, "-o", name, "--resume", "--threshold", "0.5"]) == 2


def test_shards_of_a_folder_become_the_file_of_a_single_run(here: Path, tiny: str) -> None:
    shutil.copytree(PHOTOS, "photos")
    arguments = ["predict", "photos", "photos/coffee.jpg", "-m", tiny, "-q", "--batch-size", "1"]
    parts = ["part-1.csv", "part-2.csv"]
    for name in ("aaa.jpg", "zzz.jpg"):
        assert cli.run([*arguments, "-o", "whole.csv"]) == 0
        for index, part in enumerate(parts, start=1):
            assert cli.run([*arguments, "-o", part, "--shard", f"{index}/2", "--resume"]) == 0
        merge(parts, "out.csv", "csv")
        assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
        shutil.copy("photos/coffee.jpg", f"photos/{name}")
    os.unlink("photos/chelsea.jpg")
    assert cli.run([*arguments, "-o", "whole.csv", "--resume"]) == 0
    for index, part in enumerate(parts, start=1):
        assert cli.run([*arguments, "-o", part, "--shard", f"{index}/2", "--resume"]) == 0
    merge(parts, "out.csv", "csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert Path("out.csv").read_text().splitlines()[1].startswith("photos/chelsea.jpg,"), "gone, and kept"
