"""`predict --watch`: a drop folder."""

import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from dinoclassify.cli import run
from dinoclassify.discovery import watch
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.seen import Seen
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import ErrorCode, Failure, Label, Prediction
from dinoclassify.types.source import Source
from tests.helpers.drop_folder import HEADER, drop, start, wait_for


class Clock:
    """Seconds that pass only while `watch` sleeps, when something is done to the folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
        self.now, self.steps = 0.0, list(steps)
        monkeypatch.setattr("dinoclassify.discovery.watch.time.monotonic", lambda: self.now)
        monkeypatch.setattr("dinoclassify.discovery.watch.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self.steps:
            raise StopWatchingError
        self.steps.pop(0)()


def sleep(seconds: float) -> None:
    """As the clock has it."""
    time.sleep(seconds)


class StopWatchingError(Exception):
    pass


Answer = Callable[[Source], Prediction]


def label(source: Source) -> Prediction:
    """A row of an image as it is now."""
    size, mtime_ns = file_signature(source.path)
    return Prediction(source.path, "ok", (Label("cat", 281, 0.9),), size=size, mtime_ns=mtime_ns)


def fail(code: ErrorCode) -> Answer:
    """A function that gives failed rows."""

    def failed(source: Source) -> Prediction:
        size, mtime_ns = file_signature(source.path)
        return Prediction(source.path, "failed", (), Failure(code, "why"), size, mtime_ns)

    return failed


def rows_of(
    answer: Answer = label, seen: dict[str, Seen] | None = None, *, forget: bool = True
) -> list[tuple[str, str]]:
    """What a watch that ends with its clock gives: the name and status of each row that is news."""
    images = watch.Watch(lambda: discover(["inbox"]), ["inbox"], seen)
    found: list[tuple[str, str]] = []

    def rest(seconds: float) -> None:
        if forget:
            images.forget_absent()
        time.sleep(seconds)

    def label_all() -> None:
        for source in images.sources(rest):
            row = answer(source)
            if images.is_news(row):
                found.append((os.path.basename(row.path), row.status))
            images.note(row)

    with pytest.raises(StopWatchingError):
        label_all()
    return found


def given(seen: dict[str, Seen] | None = None, *, forget: bool = True) -> list[str]:
    return [f"inbox/{name}" for name, _ in rows_of(seen=seen, forget=forget)]


def write(name: str, content: str) -> Callable[[], object]:
    return lambda: Path("inbox", name).write_text(content)


def nothing() -> None:
    pass


def test_an_image_is_given_once_its_size_has_been_stable(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = [write("a.jpg", "x" * size) for size in range(1, 6)]
    Clock(monkeypatch, *growth, nothing)
    assert given() == [], "it has just stopped growing"
    Clock(monkeypatch, *growth, nothing, nothing, nothing, nothing)
    assert given() == ["inbox/a.jpg"], "once"


def test_what_is_there_already_what_changes_and_what_comes_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = [nothing] * 3
    write("a.jpg", "first")()
    write("b.txt", "no image")()
    Clock(
        monkeypatch,
        *rest,
        write("a.jpg", "another"),
        *rest,
        lambda: os.unlink("inbox/a.jpg"),
        nothing,
        write("a.jpg", "third time"),
        *rest,
    )
    assert given() == ["inbox/a.jpg"] * 3


def test_what_is_known_is_given_only_if_it_has_changed(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    write("b.jpg", "first")()
    known = {os.path.abspath(name): Seen(file_signature(name), "ok") for name in ("inbox/a.jpg", "inbox/b.jpg")}
    write("b.jpg", "changed")()
    Clock(monkeypatch, *[nothing] * 4)
    assert given(known) == ["inbox/b.jpg"]


def test_a_folder_that_is_out_of_reach_for_a_while(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    Clock(
        monkeypatch,
        *[nothing] * 3,
        lambda: inbox.rename("gone"),
        nothing,
        lambda: Path("gone").rename(inbox),
        *[nothing] * 3,
    )
    assert given() == ["inbox/a.jpg"]


def test_a_subfolder_that_cannot_be_read_for_a_while(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (inbox / "sub").mkdir()
    write("sub/a.jpg", "first")()
    write("b.jpg", "first")()
    os.symlink("nowhere", inbox / "dangling.jpg")
    real, locked = os.scandir, False

    def scandir(path: str) -> object:
        if locked and path.endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    def lock(*, now: bool) -> None:
        nonlocal locked
        locked = now

    monkeypatch.setattr(os, "scandir", scandir)
    gone = [lambda: os.unlink("inbox/b.jpg"), nothing, write("b.jpg", "first"), *[nothing] * 3]
    Clock(monkeypatch, *[nothing] * 3, partial(lock, now=True), *gone, partial(lock, now=False), *[nothing] * 3)
    assert given() == ["inbox/b.jpg", "inbox/a.jpg", "inbox/b.jpg"]


def test_a_model_that_is_busy_does_not_keep_from_looking(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    clock = Clock(monkeypatch, *[nothing] * 3)
    sources = watch.Watch(lambda: discover(["inbox"])).sources(sleep)
    next(sources)
    before, clock.now = clock.now, clock.now + 1000
    with pytest.raises(StopWatchingError):
        next(sources)
    assert clock.now < before + 1000 + 5


def test_what_is_no_file_is_not_given(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(inbox / "fifo.jpg")
    os.symlink("nowhere", inbox / "link.jpg")
    Clock(monkeypatch, *[nothing] * 4)
    assert given() == []


def test_a_large_tree_is_looked_at_less_often(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, *[nothing] * 2)

    def slow() -> Iterator[Source]:
        clock.now += 10
        yield from ()

    with pytest.raises(StopWatchingError):
        list(watch.Watch(slow).sources(sleep))
    assert clock.now == pytest.approx(3 * (10 + 40))


def test_an_image_that_is_away_for_a_while_is_the_same_where_its_row_is_kept(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.jpg", "first")()
    away = [lambda: os.rename("inbox/a.jpg", "a.jpg"), nothing, lambda: os.rename("a.jpg", "inbox/a.jpg")]
    rest = [nothing] * 4
    Clock(monkeypatch, *rest, *away, *rest)
    assert given(forget=True) == ["inbox/a.jpg"] * 2
    Clock(monkeypatch, *rest, *away, *rest, write("a.jpg", "another"), *rest)
    assert given(forget=False) == ["inbox/a.jpg"] * 2, "the second time it has changed"


def test_a_failure_that_a_change_of_mode_ends(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    write("good.jpg", "first")()
    monkeypatch.setattr("dinoclassify.discovery.watch.FIRST_RETRY", 1e9)
    for name in ("a.jpg", "good.jpg"):
        os.chmod(inbox / name, 0o600)

    def answer(source: Source) -> Prediction:
        is_refused = source.path.endswith("a.jpg") and os.stat(source.path).st_mode & 0o777 == 0o600
        return fail("unreadable")(source) if is_refused else label(source)

    def let(name: str) -> Callable[[], None]:
        def change() -> None:
            before = os.stat(inbox / name).st_ctime_ns
            while os.stat(inbox / name).st_ctime_ns == before:  # its clock may tick every 4 ms only
                os.chmod(inbox / name, 0o644)

        return change

    Clock(monkeypatch, *[nothing] * 5, let("a.jpg"), let("good.jpg"), *[nothing] * 5)
    assert rows_of(answer) == [("a.jpg", "failed"), ("good.jpg", "ok"), ("a.jpg", "ok")]


@pytest.mark.parametrize("code", ["unreadable", "timeout", "out_of_memory"])
def test_a_failure_that_may_pass_is_tried_again_with_growing_pauses(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    write("a.jpg", "first")()
    clock = Clock(monkeypatch, *[nothing] * 200)
    tries: list[float] = []

    def answer(source: Source) -> Prediction:
        tries.append(clock.now)
        return fail(code)(source) if len(tries) < 4 else label(source)

    assert rows_of(answer) == [("a.jpg", "failed"), ("a.jpg", "ok")], "the same failure again is no news"
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses == [pytest.approx(pause, abs=4) for pause in (10, 20, 40)]


def test_a_failure_of_the_image_itself_is_not_tried_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    Clock(monkeypatch, *[nothing] * 100)
    assert rows_of(fail("truncated")) == [("a.jpg", "failed")]


def test_what_failed_in_an_earlier_run_is_tried_again_at_once(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for name, code in (("a.jpg", "unreadable"), ("b.jpg", "not_image"), ("c.jpg", "unreadable")):
        write(name, "first")()
        known = file_signature(f"inbox/{name}") if name != "c.jpg" else (None, None)
        seen[str(inbox / name)] = Seen(known, "failed", cast(ErrorCode, code), earlier=True)
    Clock(monkeypatch, *[nothing] * 5)
    assert given(seen) == ["inbox/a.jpg", "inbox/c.jpg"]


def test_an_image_whose_row_is_on_its_way_is_not_given_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    Clock(monkeypatch, *[nothing] * 20)
    images = watch.Watch(lambda: discover(["inbox"]), ["inbox"])
    found: list[Source] = []
    assert images.is_idle
    with pytest.raises(StopWatchingError):
        found.extend(images.sources(sleep))
    assert len(found) == 1
    assert not images.is_idle
    assert images.waiting == 1
    images.note(label(found[0]))
    assert images.is_idle


def test_an_empty_mount_point_is_waited_for(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unmount() -> None:
        inbox.rename("disk")
        inbox.mkdir()

    def mount() -> None:
        inbox.rmdir()
        Path("disk").rename(inbox)

    write("a.jpg", "first")()
    Clock(monkeypatch, *[nothing] * 4, *[unmount, nothing, nothing, mount, nothing] * 2, *[nothing] * 4)
    assert given(forget=True) == ["inbox/a.jpg"], "nothing is forgotten meanwhile"
    away = "inbox is empty, and not the folder that it was: waiting for its disk"
    assert [record.getMessage() for record in caplog.records] == [away, "inbox is there again"] * 2


def test_a_disk_that_goes_in_the_middle_of_a_look(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write("a.jpg", "first")()
    looks = itertools.count()

    def look() -> Iterator[Source]:
        yield from discover(["inbox"])
        if next(looks) == 4:
            inbox.rename("disk")
            inbox.mkdir()

    Clock(monkeypatch, *[nothing] * 8)
    images = watch.Watch(look, ["inbox"])
    with pytest.raises(StopWatchingError):
        list(map(images.note, map(label, images.sources(sleep))))
    assert list(images.away) == ["inbox"]
    assert images.forget_absent() == []
    assert images.seen


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_a_folder_that_is_empty_after_a_restart(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_mount_point: bool
) -> None:
    status = inbox.stat()
    seen = {str(inbox / "a.jpg"): Seen((5, 5), "ok", earlier=True)}
    identities = {str(inbox): (status.st_dev, status.st_ino + is_mount_point)}
    Clock(monkeypatch, *[nothing] * 4)
    images = watch.Watch(lambda: discover(["inbox"]), ["inbox"], seen, identities)
    with pytest.raises(StopWatchingError):
        list(images.sources(sleep))
    message = "inbox is empty, and not the folder that it was: waiting for its disk"
    assert [record.getMessage() for record in caplog.records] == [message] * is_mount_point
    images.forget_absent()
    assert bool(seen) == is_mount_point, "a folder that was emptied has no images"


def test_an_image_that_is_gone_before_it_is_read_needs_no_row(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()

    def answer(source: Source) -> Prediction:
        if os.path.exists(source.path):
            os.unlink(source.path)
            return Prediction(source.path, "failed", (), Failure("vanished", "why"))
        return label(source)

    Clock(monkeypatch, *[nothing] * 5, write("a.jpg", "first"), *[nothing] * 2)
    assert rows_of(answer) == []
    write("a.jpg", "first")()
    Clock(monkeypatch, *[nothing] * 5, write("a.jpg", "first"), *[nothing] * 5)
    tries = itertools.count()
    assert rows_of(lambda source: label(source) if next(tries) else answer(source)) == [("a.jpg", "ok")]


def test_what_is_out_of_reach_is_said_once_for_each_folder(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (inbox / "sub").mkdir()
    for number in range(3):
        write(f"sub/{number}.jpg", "first")()
    real = os.stat

    def stat(path: str, **options: Any) -> os.stat_result:
        if str(path).endswith(".jpg"):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr("dinoclassify.discovery.watch.os.stat", stat)
    Clock(monkeypatch, *[nothing] * 4)
    assert given() == []
    assert [record.getMessage() for record in caplog.records] == [
        "cannot look at what is in inbox/sub: Permission denied"
    ]


def test_rows_are_added_as_images_come_and_sigterm_is_a_clean_end(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv") as process:
        wait_for(1)
        drop("two.jpg", "chelsea")
        Path("inbox/three.jpg").write_text("no image")
        rows = wait_for(3)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, ""), err
    assert "stopped by SIGTERM: 3 images: 2 ok, 1 failed (1 not_image) -> labels.csv" in err
    assert rows[0][:3] == ["inbox/one.jpg", "ok", "espresso"]
    assert {row[0] for row in rows} == {"inbox/one.jpg", "inbox/two.jpg", "inbox/three.jpg"}
    assert json.loads(Path("labels.csv.meta.json").read_text())["counts"] == {"ok": 2, "uncertain": 0, "failed": 1}


@pytest.mark.slow
def test_a_killed_watch_goes_on_and_leaves_a_file_that_predict_resumes(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv") as process:
        wait_for(1)
        process.kill()
    whole = Path("labels.csv").read_text()
    with open("labels.csv", "a") as file:
        file.write("inbox/two.jpg,ok,ha")
    drop("two.jpg")
    with start("-o", "labels.csv", "--limit", "1") as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "2 images: 2 ok, 1 of them from before" in err
    after = Path("labels.csv").read_text()
    assert after.startswith(whole)
    assert after.count("\n") == 3
    drop("three.jpg")
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "--resume"]) == 0
    assert set(after.splitlines()) < set(Path("labels.csv").read_text().splitlines())


def test_a_signal_while_the_model_is_loaded_is_a_clean_end_too(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinoclassify.cli.runs.signals import Stopped

    def stopped(*_: object, **__: object) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("dinoclassify.classifier.Classifier", stopped)
    assert run(["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv"]) == 0


def test_a_file_that_somebody_has_damaged_is_not_cut(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop("a.jpg")
    drop("b.jpg")
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "-q"]) == 0
    damaged = Path("labels.csv").read_text().replace("inbox/a.jpg", '"inbox/a.jpg')
    Path("labels.csv").write_text(damaged)
    assert run(["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--limit", "1"]) == 2
    assert "its end is within quotes" in capsys.readouterr().err
    assert Path("labels.csv").read_text() == damaged


def test_of_several_rows_of_an_image_the_last_counts(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--limit", "1", "-q"]
    for photo in ("coffee", "chelsea"):
        drop("a.jpg", photo)
        assert run(command) == 0
    assert [row[2] for row in wait_for(2)] == ["espresso", "Egyptian cat"]
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert os.listdir("sorted/Egyptian cat") == ["a.jpg"]
    assert run(["tag", "labels.csv"]) == 0
    assert run(["report", "labels.csv", "-o", "page.html"]) == 0
    assert "1 row, 1 thumbnail" in capsys.readouterr().err
    shutil.copy("labels.csv", "part.csv")
    shutil.copy("labels.csv.meta.json", "part.csv.meta.json")
    assert run(["merge", "part.csv", "-o", "merged.csv"]) == 0
    assert "1 image: 1 ok of 1 part" in capsys.readouterr().err
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "--resume"]) == 0
    assert "1 image: 1 ok; 1 kept; 1 passed over: 1 .xmp" in capsys.readouterr().err
    assert [row[2] for row in wait_for(1)] == ["Egyptian cat"]
    assert Path("labels.csv").read_bytes() == Path("merged.csv").read_bytes()


def test_an_image_is_the_same_by_any_of_its_paths(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(folder: str, output: str) -> int:
        return run(["predict", "--watch", folder, "-m", "builtin", "-o", output, "--limit", "1", "-q"])

    drop("a.jpg")
    assert command("inbox", "labels.csv") == 0
    drop("b.jpg", "chelsea")
    assert command("./inbox", "labels.csv") == 0
    assert [row[0] for row in wait_for(2)] == ["inbox/a.jpg", "./inbox/b.jpg"]
    monkeypatch.chdir(inbox)
    assert command("../inbox", "../labels.csv") == 2
    assert f"../labels.csv has paths that begin in {inbox.parent}: go there first" in capsys.readouterr().err


def test_earlier_failures_stay_in_the_list_of_errors(inbox: Path) -> None:
    Path("inbox/a.jpg").write_text("no image")
    command = ["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--errors-to", "errors", "-q"]
    assert run([*command, "--limit", "1"]) == 3
    assert Path("errors").read_text() == "inbox/a.jpg\n"
    drop("b.jpg")
    assert run([*command, "--limit", "1"]) == 3
    assert Path("errors").read_text() == "inbox/a.jpg\n"


def test_rows_on_stdout_end_with_their_reader(inbox: Path) -> None:
    drop("one.jpg")
    with start("-f", "jsonl") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["label"] == "espresso"
        process.stdout.close()
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "a list on stdin is followed without it"),
        (["inbox", "-0"], "not at lists"),
        (["--files-from", "list.txt"], "a list on stdin is followed without it"),
        (["inbox", "-o", "x.parquet"], "choose csv, tsv or jsonl, not parquet"),
        (["inbox", "-o", "x.csv", "--resume"], "leave out --resume"),
        (["inbox", "-o", "other.csv"], "made with model x, not builtin: add --model x, or name another --output"),
        (["inbox", "-o", "begun.csv"], "begun.csv.partial is of an interrupted run: finish that first, with --resume"),
        (["inbox", "-o", "strange.csv"], "cannot read strange.csv.meta.json, which says what made strange.csv"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("list.txt", "begun.csv.partial"):
        Path(name).touch()
    for name in ("other.csv", "strange.csv"):
        Path(name).write_text(f"{HEADER}\na.jpg,ok,cat,0.9,0,,,1,1\n")
    Path("other.csv.meta.json").write_text('{"made_with": {"model": "x"}, "adds_to_output": false}')
    assert run(["predict", "--watch", "-m", "builtin", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len([line for line in err.splitlines() if ": preparing builtin for " not in line]) == 1


def test_warnings_are_said_once(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dinoclassify.cli.runs.watch import warning_once

    with warning_once():
        for _ in range(3):
            assert list(discover(["inbox/*.png"])) == []
    assert [record.getMessage() for record in caplog.records] == ["nothing matches inbox/*.png"]
    assert list(discover(["inbox/*.png"])) == []
    assert len(caplog.records) == 2
