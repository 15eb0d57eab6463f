"""How bench times a round: over and over on a GPU, and with the processor time of all processes."""

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinoclassify.diagnostics import core_time
from dinoclassify.diagnostics.core_time import CoreTime, core_ms, measure_core_time
from dinoclassify.diagnostics.rounds import Round, Speed, core_seconds, least_seconds, repeat, repeat_files
from tests.conftest import by_fork


def test_only_a_round_on_a_gpu_has_a_least_time() -> None:
    assert least_seconds("cuda:1") == 5
    assert least_seconds("cpu") == 0


@pytest.mark.parametrize(("least", "calls"), [(0.0, 1), (0.1, 5)])
def test_work_is_repeated_until_the_least_time_has_passed(least: float, calls: int) -> None:
    done: list[int] = []

    def work() -> None:
        done.append(1)
        time.sleep(0.025)

    speed = repeat(8, work, least)
    assert len(done) <= calls  # fewer on a busy machine
    assert speed.images == 8 * len(done)
    assert speed.seconds >= max(least, 0.025)
    assert speed.rate == speed.images / speed.seconds


def test_files_are_repeated_as_one_stream_so_that_workers_start_once() -> None:
    streams: list[list[str]] = []

    def work(files: Iterable[str]) -> None:
        streams.append([])
        for file in files:
            streams[-1].append(file)
            time.sleep(0.002)

    assert repeat_files(["a", "b"], work, 0.0).images == 2
    speed = repeat_files(["a", "b"], work, 0.1)
    assert streams[0] == ["a", "b"]
    assert len(streams) == 2
    assert streams[1] == ["a", "b"] * (len(streams[1]) // 2)
    assert speed.images == len(streams[1]) > 2
    assert speed.seconds >= 0.1


def test_the_model_alone_is_repeated_on_a_gpu() -> None:
    from dinoclassify.diagnostics.contestants import forward

    calls: deque[int] = deque()

    def call(parts: Any) -> Callable[[], None]:
        calls.append(sum(map(len, parts)))
        return lambda: time.sleep(0.001)

    class FakeRuntime(SimpleNamespace):
        def __call__(self, parts: Any) -> Callable[[], None]:
            return call(parts)

    runtime: Any = FakeRuntime(device="cpu", batch_size=2, ahead=0)
    run = forward(runtime, np.zeros((4, 3, 2, 2), np.uint8))
    calls.clear()  # the first run is not measured
    once = run(0.0)
    assert once.images == sum(calls)
    assert run(0.1).images > 2 * once.images


def test_a_run_without_the_model_has_its_outputs_for_as_many_images() -> None:
    from dinoclassify.diagnostics.contestants import without_model

    calls: list[int] = []

    class FakeRuntime(SimpleNamespace):
        def __call__(self, parts: Any) -> Callable[[], Any]:
            calls.append(sum(map(len, parts)))
            return lambda: parts[0][:, 0, 0, 0] * 2

    runtime: Any = FakeRuntime(name="x", device="cpu", precision="fp32", batch_size=4, outputs=1, ahead=3)
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + np.uint8(7)
    replay = without_model(runtime, pixels)
    assert [output().tolist() for output in (replay([pixels[:2]]), replay([pixels]))] == [[14, 14], [14, 14, 14]]
    assert (replay.batch_size, replay.ahead, calls) == (4, 3, [4])


@by_fork
def test_the_time_of_processes_that_have_ended_counts() -> None:
    def work() -> None:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass

    before = core_seconds()
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert 0.2 <= core_seconds() - before < 0.4, "without another word: it is waited for"


def fake(start: float, each: float, count: int = 10) -> Round:
    """A round with a fixed core time at its start and for each image; an image takes a tenth of a second."""
    return lambda least: Speed(n := count * max(1, round(least)), n / 10, start + each * n)


def test_the_start_of_workers_does_not_count_as_core_time_of_an_image() -> None:
    assert core_ms(fake(0.5, 0.004)) == pytest.approx(4)
    measured = measure_core_time(
        whole_run=fake(0.5, 0.038),
        model=fake(0.0, 0.031),
        without_model=fake(0.5, 0.006),
        decode_only=fake(1.0, 0.003),
        rounds=2,
    )
    assert measured == CoreTime(whole_run=38, model=31, outside_model=7, without_model=6, decode_only=3)


def test_core_time_is_there_if_a_longer_run_takes_no_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_time, "SECONDS", 0)
    assert core_ms(lambda least: Speed(10, 1, np.float64(0.02))) == pytest.approx(2)
