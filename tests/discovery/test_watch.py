"""Watched folders: which images are yielded, and when."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from dinoclassify.discovery import watch
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.seen import Seen
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import ErrorCode, Failure, Label, Prediction
from dinoclassify.types.source import Source


class Clock:
    """A clock that only advances while `watch` sleeps; each sleep does the next of the steps."""

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
    """Sleep as `Clock` does."""
    time.sleep(seconds)


class StopWatchingError(Exception):
    pass


Answer = Callable[[Source], Prediction]


def label(source: Source) -> Prediction:
    """The row of an image as it is now."""
    size, mtime_ns = file_signature(source.path)
    return Prediction(source.path, "ok", (Label("cat", 281, 0.9),), size=size, mtime_ns=mtime_ns)


def fail(code: ErrorCode) -> Answer:
    """Return a function that makes failed rows."""

    def failed(source: Source) -> Prediction:
        size, mtime_ns = file_signature(source.path)
        return Prediction(source.path, "failed", (), Failure(code, "why"), size, mtime_ns)

    return failed


def rows_of(
    answer: Answer = label, seen: dict[str, Seen] | None = None, *, forget: bool = True
) -> list[tuple[str, str]]:
    """The name and status of each row that is news, until the clock has no more steps."""
    images = watch.Watch(lambda: discover(["inbox"]), ["inbox"], seen)
    found: list[tuple[str, str]] = []

    def rest(seconds: float) -> None:
        if forget:
            images.forget_absent()
        time.sleep(seconds)

    def label_all() -> None:
        for source in images.sources(rest):
            row = answer(source)
            if images.is_new_result(row):
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


def test_an_image_is_yielded_once_its_size_is_stable(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = [write("a.jpg", "x" * size) for size in range(1, 6)]
    Clock(monkeypatch, *growth, nothing)
    assert given() == [], "it has just stopped growing"
    Clock(monkeypatch, *growth, nothing, nothing, nothing, nothing)
    assert given() == ["inbox/a.jpg"], "once"


def test_an_image_is_yielded_again_when_it_changes_or_returns(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_known_image_is_only_yielded_if_it_has_changed(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    write("b.jpg", "first")()
    known = {os.path.abspath(name): Seen(file_signature(name), "ok") for name in ("inbox/a.jpg", "inbox/b.jpg")}
    write("b.jpg", "changed")()
    Clock(monkeypatch, *[nothing] * 4)
    assert given(known) == ["inbox/b.jpg"]


def test_images_are_not_yielded_again_after_their_folder_was_missing_for_a_while(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_images_are_not_yielded_again_after_their_subfolder_was_unreadable_for_a_while(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_busy_model_does_not_delay_the_next_poll(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    clock = Clock(monkeypatch, *[nothing] * 3)
    sources = watch.Watch(lambda: discover(["inbox"])).sources(sleep)
    next(sources)
    before, clock.now = clock.now, clock.now + 1000
    with pytest.raises(StopWatchingError):
        next(sources)
    assert clock.now < before + 1000 + 5


def test_pipes_and_broken_links_are_not_yielded(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(inbox / "fifo.jpg")
    os.symlink("nowhere", inbox / "link.jpg")
    Clock(monkeypatch, *[nothing] * 4)
    assert given() == []


def test_a_large_tree_is_polled_less_often(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, *[nothing] * 2)

    def slow() -> Iterator[Source]:
        clock.now += 10
        yield from ()

    with pytest.raises(StopWatchingError):
        list(watch.Watch(slow).sources(sleep))
    assert clock.now == pytest.approx(3 * (10 + 40))


def test_an_image_that_returns_is_only_yielded_again_if_its_row_was_forgotten(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.jpg", "first")()
    away = [lambda: os.rename("inbox/a.jpg", "a.jpg"), nothing, lambda: os.rename("a.jpg", "inbox/a.jpg")]
    rest = [nothing] * 4
    Clock(monkeypatch, *rest, *away, *rest)
    assert given(forget=True) == ["inbox/a.jpg"] * 2
    Clock(monkeypatch, *rest, *away, *rest, write("a.jpg", "another"), *rest)
    assert given(forget=False) == ["inbox/a.jpg"] * 2, "the second time it has changed"


def test_a_failed_image_is_retried_when_its_mode_changes(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_passing_failure_is_retried_with_growing_pauses(
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


def test_a_truncated_image_is_not_retried(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jpg", "first")()
    Clock(monkeypatch, *[nothing] * 100)
    assert rows_of(fail("truncated")) == [("a.jpg", "failed")]


def test_passing_failures_of_an_earlier_run_are_retried_at_once(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for name, code in (("a.jpg", "unreadable"), ("b.jpg", "not_image"), ("c.jpg", "unreadable")):
        write(name, "first")()
        known = file_signature(f"inbox/{name}") if name != "c.jpg" else (None, None)
        seen[str(inbox / name)] = Seen(known, "failed", cast(ErrorCode, code), earlier=True)
    Clock(monkeypatch, *[nothing] * 5)
    assert given(seen) == ["inbox/a.jpg", "inbox/c.jpg"]


def test_an_image_is_not_yielded_again_while_it_is_being_labelled(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_nothing_is_forgotten_while_a_mount_point_is_empty(
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
    away = "inbox is empty, and another folder than before: waiting for its disk (dinoclassify guide watch)"
    assert [record.getMessage() for record in caplog.records] == [away, "inbox is there again"] * 2


def test_nothing_is_forgotten_if_a_disk_is_unmounted_during_a_poll(
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
def test_an_empty_folder_after_a_restart_is_only_waited_for_if_it_is_another_folder(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_mount_point: bool
) -> None:
    status = inbox.stat()
    seen = {str(inbox / "a.jpg"): Seen((5, 5), "ok", earlier=True)}
    identities = {str(inbox): (status.st_dev, status.st_ino + is_mount_point)}
    Clock(monkeypatch, *[nothing] * 4)
    images = watch.Watch(lambda: discover(["inbox"]), ["inbox"], seen, identities)
    with pytest.raises(StopWatchingError):
        list(images.sources(sleep))
    message = "inbox is empty, and another folder than before: waiting for its disk (dinoclassify guide watch)"
    assert [record.getMessage() for record in caplog.records] == [message] * is_mount_point
    images.forget_absent()
    assert bool(seen) == is_mount_point, "a folder that was emptied has no images"


def test_an_image_that_vanishes_before_it_is_read_has_no_row(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_warning_about_unreachable_files_is_logged_once_for_each_folder(
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
        "cannot list inbox/sub: Permission denied; its images wait"
    ]
