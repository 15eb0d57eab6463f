"""Outputs of every kind: what is kept, what is made, and what a kill at any moment leaves."""

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from dinoclassify.errors import LockedError, OutputError, PruneError, UsageError
from dinoclassify.results.reader import read_predictions
from dinoclassify.storage.lock import locked
from dinoclassify.storage.remote import filesystem
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import Source
from dinoclassify.writers import chunks, staging
from dinoclassify.writers.formats import FORMATS, open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.output_folder import OutputFolder
from dinoclassify.writers.staging import published, stage_of
from dinoclassify.writers.target import Target, exclusive
from tests.helpers.crash import in_small_process, killed_at

KINDS = {
    "file.csv": "csv",
    "file.jsonl": "jsonl",
    "file.parquet": "parquet",
    "file.db": "sqlite",
    "file.tsv.gz": "tsv.gz",
    "folder/": "csv",
    "tables/": "parquet",
    "STORE/folder/": "jsonl",
    "STORE/object.csv": "csv",
    "STORE/object.parquet": "parquet",
}
FINGERPRINT = {"model": "m", "runtime": "openvino"}
PATHS = [f"{number}.jpg" for number in range(11)]

Changes = list[tuple[str, str]]


class DiskStore(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose objects are files, so that they outlive the process."""

    protocol = "diskstore"

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("diskstore://")

    def put_file(self, path: str, url: str, **_: Any) -> None:
        self.pipe_file(url, Path(path).read_bytes())  # at a stroke, as stores do


fsspec.register_implementation("diskstore", DiskStore, clobber=True)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


def prepare_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # takes most of the time, and no kill can tell
    for path in PATHS:
        Path(path).write_bytes(b"x")


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return in_store(request.param)


def in_store(kind: str) -> str:
    return kind.replace("STORE", f"diskstore://{os.getcwd()}/bucket")


def row(path: str, label: str = "fish") -> Prediction:
    """What a model makes of a file; of one with ``?`` in it, a failure."""
    try:
        status, content = os.stat(path), Path(path).read_bytes()
    except FileNotFoundError:
        return Prediction(path, "failed", failure=Failure("vanished", "it is gone"))
    signature: Any = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if b"?" in content:
        return Prediction(path, "failed", failure=Failure("timeout", "late"), **signature)
    return Prediction(path, "ok", (Label(f"{label} {len(content)}", 1, 0.5),), **signature)


def run(
    name: str,
    paths: list[str],
    make: Callable[[str], Prediction] = row,
    *,
    fingerprint: dict[str, str] = FINGERPRINT,
    batch_size: int = 2,
    stop_after: int | None = None,
    **options: Any,
) -> Changes:
    """A whole run; gives what became of each input. ``stop_after`` rows it ends as a signal ends it."""
    changes: Changes = []
    row_format = open_format(next(made for kind, made in KINDS.items() if name.endswith(kind.removeprefix("STORE"))), 1)
    update = UpdateOptions(**options)
    target = Target(name, FORMATS[0], in_parts=name.endswith("/"))
    file, kind = (name, OutputFolder) if target.in_parts else (target.local_file or name, OutputFile)
    with (
        exclusive(target, resume=update.resume, fresh=update.fresh),
        closing(
            Output.open(kind(file, row_format, batch_size=batch_size), row_format.lines, fingerprint, update)
        ) as output,
    ):
        for number, source in enumerate(
            output.pending(map(Source, paths), lambda source, change, _: changes.append((source.path, change)))
        ):
            if number == stop_after:
                raise KeyboardInterrupt
            output.write(make(source.path))
        output.finish(output.unnamed(), {"counts": {}})
    return changes


def interrupted(name: str, paths: list[str], stop_after: int, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(name, paths, stop_after=stop_after, **options)


def rows(name: str) -> list[Prediction]:
    return list(read_predictions(name))


def labels(name: str) -> dict[str, str | None]:
    return {row.path: row.label for row in rows(name)}


def content(name: str) -> object:
    """The bytes of an output; the rows of one whose bytes are never twice the same."""
    path = name.removeprefix("diskstore://")
    return Path(path).read_bytes() if os.path.isfile(path) and not path.endswith(".db") else rows(name)


def leftovers() -> list[str]:
    """What no finished run leaves."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names]
    return [name for name in found if ".partial" in name or ".tmp" in name or "/outputs/" in name]


def change(path: str, text: str) -> None:
    Path(path).write_text(text)
    os.utime(path, (2, 2))


def prepare(name: str, *, update: bool, changes: bool = True) -> list[str]:
    """The inputs of a run: some are new, some have changed, some failed or are not named any more, one is gone."""
    if not update:
        return PATHS
    if not changes:
        run(name, PATHS)
        return PATHS
    change("3.jpg", "?")
    run(name, PATHS[:8], partial(row, label="old"))
    change("1.jpg", "changed")
    change("3.jpg", "mended")
    os.unlink("0.jpg")
    return [*PATHS[8:], *PATHS[1:6]]


QUICK = ("file.csv", "folder/")


@pytest.mark.parametrize("before_it", ["nothing", "an output", "the same output"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]
)
def test_killed_before_any_change_of_the_disk_and_resumed_it_is_as_if_undisturbed(
    tmp_path: Path, kind: str, before_it: str
) -> None:
    in_small_process(kill_before_any_change, tmp_path, kind, before_it)


def kill_before_any_change(tmp_path: Path, kind: str, before_it: str) -> None:
    update, changes = before_it != "nothing", before_it != "the same output"
    here, before, seed = tmp_path / "here", tmp_path / "before", random.Random(0)
    here.mkdir()
    prepare_folder(here, pytest.MonkeyPatch())
    name = in_store(kind)
    inputs = prepare(name, update=update, changes=changes)
    shutil.copytree(here, before)
    for step in count():
        killed = killed_at(step, partial(run, name, inputs, resume=update, prune=update), DiskStore)
        killed_at(seed.randrange(25), partial(run, name, inputs, resume=True, prune=update), DiskStore)
        run(name, inputs, resume=True, prune=update)
        found = content(name)
        assert leftovers() == [], step
        if step == 0:
            expected = found
            assert [row.path for row in rows(name)] == ([*PATHS[6:8], *inputs] if update and changes else PATHS)
            assert labels(name)["2.jpg"] == ("old 1" if update and changes else "fish 1")
        assert found == expected, step
        if not killed:
            break
        os.chdir(tmp_path)
        shutil.rmtree(here)
        shutil.copytree(before, here)
        os.chdir(here)
    assert step > (10 if changes else 5)


@pytest.mark.parametrize("resume", [False, True])
def test_finished_rows_of_an_interrupted_run_are_discarded_with_fresh_alone(name: str, resume: bool) -> None:
    if resume:
        run(name, PATHS[:2])
        interrupted(name, PATHS, 5, resume=True)
    else:
        interrupted(name, PATHS, 5)
    before = leftovers()
    with pytest.raises(UsageError, match=r"has [45] finished rows of an interrupted run: --resume goes on, --fresh"):
        run(name, PATHS)
    assert leftovers() == before
    assert [change for _, change in run(name, PATHS, fresh=True)] == ["new"] * 11
    assert leftovers() == []


def test_an_interrupted_run_that_replaces_an_output_goes_on_replacing(name: str) -> None:
    run(name, PATHS[:3])
    before = content(name)
    interrupted(name, PATHS[4:], 5)
    assert content(name) == before, "until the end it is as it was"
    assert [change for _, change in run(name, PATHS[4:], resume=True)].count("kept") == 4
    assert [row.path for row in rows(name)] == PATHS[4:]


def test_of_an_interrupted_run_only_rows_that_would_be_kept_count(name: str) -> None:
    """Rows of less than a batch are made again, so that batches stay the same."""
    interrupted(name, PATHS, 3, batch_size=8)
    assert [change for _, change in run(name, PATHS, batch_size=8)] == ["new"] * 11
    assert leftovers() == []


def test_an_update_tells_what_becomes_of_each_input(name: str) -> None:
    inputs = prepare(name, update=True)
    changes = dict(run(name, inputs, resume=True, retry_failed=True))
    assert changes == {
        **dict.fromkeys(PATHS[8:], "new"),
        **dict.fromkeys(("1.jpg", "3.jpg"), "changed"),
        **dict.fromkeys(("2.jpg", "4.jpg", "5.jpg"), "kept"),
    }
    assert [row.path for row in rows(name)] == ["0.jpg", "6.jpg", "7.jpg", *inputs]


@pytest.mark.parametrize(
    ("failed", "image"),
    [
        ("m", "m/1.jpg"),
        ("m", "./m/below/it/1.jpg"),
        ("a.zip", "a.zip!m/1.jpg"),
        ("m", "m/a.zip!1.jpg"),
        ("t.parquet", "t.parquet!0"),
        ("memory://bucket/m/", "memory://bucket/m/below/it/1.jpg"),
        ("memory://bucket/m", "memory://bucket/m/1.jpg"),
    ],
)
def test_the_row_of_what_could_not_be_read_goes_with_its_first_image(failed: str, image: str) -> None:
    def make(path: str) -> Prediction:
        failure = Failure("unreadable", "not now")
        return Prediction(path, "failed", failure=failure) if path == failed else Prediction(path, "ok", label)

    label = (Label("fish", 1, 0.5),)
    run("file.csv", ["0.jpg", failed, "mm/1.jpg"], make)
    run("file.csv", [image], make, resume=True)
    assert [row.path for row in rows("file.csv")] == ["0.jpg", "mm/1.jpg", image]


def test_the_row_of_what_still_cannot_be_read_stays() -> None:
    def make(path: str) -> Prediction:
        failure = Failure("unreadable", "not now")
        return Prediction(path, "failed", failure=failure) if path == "m/sub" else row(path)

    run("file.csv", ["0.jpg", "m/sub"], make)
    assert run("file.csv", ["m/1.jpg", "m/sub"], make, resume=True) == [("m/1.jpg", "new"), ("m/sub", "kept")]


def test_nothing_new_leaves_the_rows_as_they_are(name: str) -> None:
    run(name, PATHS)
    before = content(name)
    assert run(name, PATHS, resume=True) == [(path, "kept") for path in PATHS]
    assert content(name) == before
    assert leftovers() == []


def test_a_file_is_the_same_by_any_of_its_paths(name: str) -> None:
    run(name, PATHS)
    for folder in ("./", f"{os.getcwd()}/", f"{os.getcwd()}/.//", ""):
        paths = [folder + path for path in PATHS]
        assert {change for _, change in run(name, paths, resume=True)} == {"kept"}, folder
        assert [row.path for row in rows(name)] == paths, "the row takes today's spelling"


def test_rows_that_stay_from_another_folder_have_paths_that_still_lead_to_their_files(name: str) -> None:
    name = name if is_url(name) else os.path.abspath(name) + "/" * name.endswith("/")
    here = os.getcwd()
    run(name, PATHS)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    change("0.jpg", "another file")
    assert run(name, ["0.jpg", "../1.jpg"], resume=True) == [("0.jpg", "new"), ("../1.jpg", "kept")]
    assert [row.path for row in rows(name)] == [
        *(f"{here}/{path}" for path in (PATHS[0], *PATHS[2:])),
        *("0.jpg", "../1.jpg"),
    ]


def test_an_interrupted_run_goes_on_in_its_own_folder(name: str) -> None:
    name = name if is_url(name) else os.path.abspath(name) + "/" * name.endswith("/")
    interrupted(name, PATHS, 6)
    here = os.getcwd()
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    with pytest.raises(UsageError, match=f"has paths that begin in {here}: go there first"):
        run(name, [f"../{path}" for path in PATHS], resume=True)


def test_a_path_that_is_named_twice_has_two_rows(name: str) -> None:
    paths = [*PATHS, *PATHS[:3], "gone.jpg", "gone.jpg"]
    interrupted(name, paths, 14)
    assert [change for _, change in run(name, paths, resume=True)].count("kept") >= 12
    assert [row.path for row in rows(name)] == paths
    assert {change for _, change in run(name, paths, resume=True)} == {"kept"}


def append(name: str, paths: list[str], *, is_said: bool = True) -> None:
    """Add a row for each path at the end, as `--watch` does."""
    meta = json.loads(Path(f"{name}.meta.json").read_text())
    Path(f"{name}.meta.json").write_text(json.dumps({**meta, "appended": is_said}))
    with open(name, "ab") as file:
        file.writelines(open_format(KINDS[f"file{Path(name).suffix}"], 1).lines.line(row(path)) for path in paths)


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize("name", ["file.csv", "file.jsonl"])
def test_where_rows_were_added_at_the_end_the_last_of_an_image_counts(name: str, is_said: bool) -> None:
    paths = [*PATHS, "3.jpg", "4.jpg"]
    change("1.jpg", "?")
    run(name, paths)
    for text in ("one", "three"):
        for path in PATHS[:4]:
            change(path, text)
        append(name, [f"./{path}" for path in PATHS[:4]], is_said=is_said)
    append(name, PATHS[5:6], is_said=is_said)
    assert set(run(name, PATHS[:1], resume=True)) == {("0.jpg", "kept")}
    found = [(shown.path, shown.label) for shown in rows(name)]
    assert [label for path, label in found if path == "./3.jpg"] == ["fish 5"], "the other rows are of earlier content"
    assert ("1.jpg", None) not in found
    many = [path for path, _ in found if found.count((path, "fish 1")) > 1]
    assert set(many) == (set() if is_said else {"4.jpg", "5.jpg"}), "4.jpg was named twice"
    assert found[-1] == ("0.jpg", "fish 5")


@pytest.mark.parametrize("name", ["file.csv", "file.jsonl"])
def test_rows_that_count_no_more_are_not_counted(name: str) -> None:
    """Those of failures that have passed, of files of the same size and time."""
    change("0.jpg", "?")
    run(name, PATHS)
    change("0.jpg", "x")
    append(name, PATHS[:1])
    with closing(
        Output.open(
            OutputFile(name, open_format(KINDS[name], 1), batch_size=2),
            open_format(KINDS[name], 1).lines,
            FINGERPRINT,
            UpdateOptions(resume=True),
        )
    ) as output:
        assert output.statuses == {"ok": 11}


def test_rows_of_failed_images_are_made_again_on_demand(name: str) -> None:
    change("3.jpg", "?")
    status = os.stat("3.jpg")
    interrupted(name, PATHS, 8)
    change("3.jpg", "x")
    os.utime("3.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))  # a failure that passes by itself
    assert ("3.jpg", "kept") in run(name, PATHS, resume=True)
    assert ("3.jpg", "retried") in run(name, PATHS, resume=True, retry_failed=True)
    assert [row.status for row in rows(name)] == ["ok"] * 11


def test_rows_that_are_made_again_after_two_interruptions_stand_once(name: str) -> None:
    run(name, PATHS)
    for text in ("one", "three"):
        for path in PATHS[:6]:
            change(path, text)
        interrupted(name, PATHS, 4, resume=True)
    run(name, PATHS, resume=True)
    assert [(row.path, row.label) for row in rows(name)] == [
        (path, "fish 5" if path in PATHS[:6] else "fish 1") for path in PATHS
    ]


def test_rows_of_failed_images_that_are_made_again_before_an_interruption_stand_once(name: str) -> None:
    for path in PATHS[:8]:
        change(path, "?")
    interrupted(name, PATHS, 9)
    for path in PATHS[:8]:
        change(path, "x")
    for _ in range(2):
        interrupted(name, PATHS, 4, resume=True, retry_failed=True)
    run(name, PATHS, resume=True, retry_failed=True)
    assert [(row.path, row.status) for row in rows(name)] == [(path, "ok") for path in PATHS]


@pytest.mark.parametrize("limit", [None, Limit("3", count=3), Limit("10%", share=0.1)])
def test_more_than_half_of_the_rows_are_pruned_on_demand_alone(name: str, limit: Limit | None) -> None:
    paths = [*PATHS, *(f"more-{number}.jpg" for number in range(11))]
    for path in paths:
        Path(path).write_bytes(b"x")
    run(name, paths)
    before = content(name)
    for path in paths[:12]:
        os.unlink(path)
    with pytest.raises(PruneError, match=r"would drop 12 of 22 rows.* --max-prune 12 allows it"):
        run(name, paths[12:], resume=True, prune=True, max_prune=limit)
    assert content(name) == before
    run(name, paths[12:], resume=True, prune=True, max_prune=Limit("55%", share=0.55))
    assert [row.path for row in rows(name)] == paths[12:]


def test_of_few_rows_any_number_may_be_pruned(name: str) -> None:
    run(name, PATHS)
    for path in PATHS[1:]:
        os.unlink(path)
    run(name, PATHS[:1], resume=True, prune=True)
    assert [row.path for row in rows(name)] == PATHS[:1]


OBJECT = "STORE/object.csv"


def in_stage(name: str) -> list[str]:
    folder, file = os.path.split(stage_of(name))
    return sorted(entry for entry in os.listdir(folder) if entry.startswith(file))


def test_the_lock_of_an_object_is_held_after_it_is_sent() -> None:
    name = in_store(OBJECT)
    file = stage_of(name)
    with locked(file, wait=False):
        with published(name, file):
            Path(file).write_text("rows")
        with pytest.raises(LockedError), locked(file, wait=False):
            pass


@pytest.mark.parametrize("kind", [OBJECT, "STORE/folder/"])
def test_a_run_waits_for_another_that_writes_the_same_object(kind: str) -> None:
    name, waiting, done = in_store(kind), threading.Event(), []
    target = Target(name, FORMATS[0], in_parts=name.endswith("/"))

    def write() -> None:
        if target.local_file is not None:
            Path(target.local_file).write_text("rows")

    def write_later() -> None:
        waiting.set()
        with exclusive(target, wait=True):
            write()
            done.append(True)

    later = threading.Thread(target=write_later)
    with exclusive(target, wait=True):
        later.start()
        waiting.wait()
        time.sleep(0.2)
        write()
        assert not done
    later.join()
    assert done


@pytest.mark.parametrize("kind", [OBJECT, "STORE/folder/"])
def test_nothing_is_left_on_this_machine_of_what_was_sent(kind: str) -> None:
    name = in_store(kind)
    outputs = Path(stage_of(name.rstrip("/"))).parent
    run(name, PATHS)
    assert not list(outputs.rglob("*"))


@pytest.mark.parametrize("lost", ["rows", "metadata"])
def test_an_object_of_which_a_killed_run_has_read_only_a_part_is_read_anew(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = in_store(OBJECT)
    run(name, PATHS[:5])

    def download(url: str, file: str) -> bool:
        if url.endswith(".meta.json") == (lost == "metadata"):
            raise KeyboardInterrupt
        return real(url, file)

    real = filesystem.download
    with monkeypatch.context() as patch:
        patch.setattr(staging, "download", download)
        with pytest.raises(KeyboardInterrupt):
            run(name, PATHS, resume=True)
    assert [change for _, change in run(name, PATHS, resume=True)].count("kept") == 5
    assert len(rows(name)) == 11


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("update", [False, True])
def test_an_object_that_is_newer_than_what_is_here_stays(
    update: bool, finished: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another machine has written it since; the rows of this one are not lost either."""
    name = in_store(OBJECT)
    if update:
        run(name, PATHS[:2])
    if finished:
        with monkeypatch.context() as patch:
            patch.setattr(staging, "upload", raising(OutputError("no network")))
            with pytest.raises(OutputError, match=r"no network; the rows are in .*object.csv, and --resume sends them"):
                run(name, PATHS[:6], resume=update)
    else:
        interrupted(name, PATHS, 6, resume=update)
    here = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", f"{here}-of-another-machine")
    run(name, PATHS[:9], partial(row, label="theirs"), resume=True)
    monkeypatch.setenv("XDG_STATE_HOME", here)
    caplog.clear()
    run(name, PATHS, resume=True)
    assert {path: label and label.split()[0] for path, label in labels(name).items()} == {
        **dict.fromkeys(PATHS[:9], "theirs"),
        **dict.fromkeys(PATHS[:2] if update else (), "fish"),
        **dict.fromkeys(PATHS[9:], "fish"),
    }
    (message,) = caplog.messages
    assert message.startswith(f"{name} is newer than the interrupted run of this machine, whose rows are now in ")
    (aside,) = in_stage(name)
    assert message.endswith(f"/{aside}")
    kept = (
        f"{os.path.dirname(stage_of(name))}/{aside}/{os.path.basename(stage_of(name))}{'' if finished else '.partial'}"
    )
    assert Path(kept).read_text().count(",ok,") >= 4


def put(text: str) -> None:
    """Write the object, as another machine would."""
    Path(in_store(OBJECT).removeprefix("diskstore://")).write_text(text)


def test_an_object_that_another_machine_writes_during_a_run_stays() -> None:
    name = in_store(OBJECT)
    run(name, PATHS[:2])

    def meanwhile(path: str) -> Prediction:
        put("theirs")
        return row(path)

    with pytest.raises(OutputError, match=r"object.csv was written by another machine during this run, and stays"):
        run(name, PATHS, meanwhile, resume=True)
    assert content(name) == b"theirs"
    assert Path(stage_of(name)).read_text().count(",ok,") == 11


def test_an_object_that_another_machine_writes_while_it_is_read_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    name = in_store(OBJECT)
    run(name, PATHS[:2])

    def download(url: str, file: str) -> bool:
        found = real(url, file)
        if not url.endswith(".meta.json"):
            put("theirs")
        return found

    real = filesystem.download
    monkeypatch.setattr(staging, "download", download)
    with pytest.raises(OutputError, match="was written by another machine during this run"):
        run(name, PATHS, resume=True)
    assert content(name) == b"theirs"


def test_what_could_not_be_sent_is_not_discarded_though_a_run_has_begun_since(monkeypatch: pytest.MonkeyPatch) -> None:
    name = in_store(OBJECT)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "upload", raising(OutputError("no network")))
        with pytest.raises(OutputError, match="no network"):
            run(name, PATHS[:6])
    interrupted(name, PATHS, 0, resume=True)
    with pytest.raises(UsageError, match="is finished, but not sent to"):
        run(name, PATHS[:2])
    assert [change for _, change in run(name, PATHS, resume=True)].count("kept") == 6


def test_a_run_that_starts_over_is_newer_than_the_object_it_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = in_store(OBJECT)
    interrupted(name, PATHS, 6)
    here = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", f"{here}-of-another-machine")
    run(name, PATHS[:9])
    monkeypatch.setenv("XDG_STATE_HOME", here)
    interrupted(name, PATHS, 4, fresh=True)
    assert [change for _, change in run(name, PATHS, resume=True)].count("kept") == 4
    assert caplog.messages == []


def raising(error: Exception) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def test_what_was_only_read_of_an_object_goes_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """No row of this machine is among it."""
    name = in_store(OBJECT)
    run(name, PATHS[:2])
    with suppress(ZeroDivisionError), published(name, stage_of(name), resume=True):
        raise ZeroDivisionError  # as where the model cannot be opened
    assert os.path.basename(stage_of(name)) in in_stage(name)
    here = os.environ["XDG_STATE_HOME"]
    os.environ["XDG_STATE_HOME"] = f"{here}-of-another-machine"  # undone with that of the fixture
    run(name, PATHS[:4], resume=True)
    os.environ["XDG_STATE_HOME"] = here
    assert [change for _, change in run(name, PATHS, resume=True)].count("kept") == 4
    assert caplog.messages == []
    assert in_stage(name) == []


def test_rows_with_another_fingerprint_are_refused_with_the_option_that_matches(name: str) -> None:
    run(name, PATHS)
    other = {"model": "m", "runtime": "torch"}
    with pytest.raises(UsageError, match="made with runtime openvino, not torch: add --runtime openvino, or --fresh"):
        run(name, PATHS, fingerprint=other, resume=True)
    run(name, PATHS, fingerprint=other)
    interrupted(name, PATHS, 5)
    with pytest.raises(UsageError, match=r"partial was made with runtime openvino, not torch: add --runtime openvino"):
        run(name, PATHS, fingerprint=other, resume=True)


@pytest.mark.parametrize("kind", ["file.csv", "folder/"])
def test_an_interrupted_run_with_other_columns_is_named_by_the_option_that_matches(kind: str) -> None:
    interrupted(kind, PATHS, 5)
    three = open_format("csv", 3)
    place = OutputFolder(kind, three, batch_size=2) if kind.endswith("/") else OutputFile(kind, three, batch_size=2)
    for resume, message in (
        (True, "add --runtime openvino, or --fresh"),
        (False, "finished rows of an interrupted run"),
    ):
        with pytest.raises(UsageError, match=message):
            Output.open(place, three.lines, {"model": "m", "runtime": "torch"}, UpdateOptions(resume=resume))


def test_the_journal_of_a_link_is_beside_the_file_that_it_leads_to() -> None:
    os.mkdir("real")
    os.symlink("real/file.csv", "file.csv")
    interrupted("file.csv", PATHS, 6)
    journal = os.path.realpath("file.csv.partial").replace("/file", "/real/file")
    assert os.path.exists(journal)
    with pytest.raises(UsageError, match=f"{journal} has 6 finished rows of an interrupted run"):
        run("file.csv", PATHS)
    run("file.csv", PATHS, resume=True)
    assert os.path.islink("file.csv")
    assert len(rows("file.csv")) == 11


def test_the_journal_of_an_older_update_has_no_header() -> None:
    run("file.csv", PATHS[:4])
    interrupted("file.csv", PATHS, 4, resume=True)
    journal = Path("file.csv.partial")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[1:]))
    assert [change for _, change in run("file.csv", PATHS, resume=True)].count("kept") == 8
    assert [row.path for row in rows("file.csv")] == PATHS


def test_an_output_of_no_rows(name: str) -> None:
    run(name, [])
    assert rows(name) == []
    run(name, [], resume=True)
    run(name, PATHS, resume=True)
    assert len(rows(name)) == 11
