"""A bench that a signal ends prints what it has measured before."""

import json
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinoclassify.cli import run
from dinoclassify.cli.commands import bench as command
from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.diagnostics import bench
from dinoclassify.diagnostics.bench import Measurement, Settings
from dinoclassify.diagnostics.contestants import Contestant
from dinoclassify.diagnostics.report import Conditions
from dinoclassify.diagnostics.rounds import Speed
from dinoclassify.timing import StageTimer
from tests.conftest import PHOTOS

Stop = Callable[[int, int], None]  # the place of a contestant and the number of its runs -> the round that is stopped


@pytest.fixture
def stop_in(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Have a bench of two contestants stopped where one of them runs for the n-th time."""

    def fake(place: int, number: int) -> None:
        def contestant(position: int) -> Contestant:
            def go(_: float) -> Speed:
                if position == place and len(each.rates) == number - 1:
                    raise Stopped(signal.SIGTERM)
                return Speed(10, 1, 1)

            each = Contestant(f"contestant {position}", "end to end", "fp32", go)
            return each

        def prepare(files: Any, settings: Settings) -> Measurement:
            model: Any = SimpleNamespace(name="builtin")
            runtime: Any = SimpleNamespace(name="torch", precision="fp32", device="cpu")
            conditions = Conditions("builtin", 5, 0.1, 9, 1, "cpu", 2, "a processor", {})
            return Measurement(
                settings, "cpu", 1, model, files, runtime, 10**9, conditions, np.empty((0, 3, 0, 0), np.uint8),
                [contestant(0), contestant(1)], [], StageTimer(), [],
            )  # fmt: skip

        monkeypatch.setattr(bench, "prepare", prepare)
        monkeypatch.setattr(command, "hush", lambda: None)

    return fake


def test_a_stopped_bench_prints_what_it_has_measured(stop_in: Stop, capfd: pytest.CaptureFixture[str]) -> None:
    stop_in(1, 2)
    assert run(["bench", str(PHOTOS), "-m", "builtin", "-q", "--rounds", "4"]) == 143
    out, err = capfd.readouterr()
    assert err == "dinoclassify: stopped by SIGTERM after 1 of 4 rounds\n"
    assert out.splitlines()[1:3] == ["contestant 0\t10.0\t10.0\t10.0", "contestant 1\t10.0\t10.0\t10.0"]
    assert "5 images of 0.1 megapixels" in out
    assert "most of it in" not in out, "no stage was measured"


def test_a_bench_that_is_stopped_in_the_first_round_prints_the_contestants_before(
    stop_in: Stop, capfd: pytest.CaptureFixture[str]
) -> None:
    stop_in(1, 1)
    assert run(["bench", str(PHOTOS), "-m", "builtin", "-q", "--rounds", "1", "--json"]) == 143
    out, err = capfd.readouterr()
    assert err == "dinoclassify: stopped by SIGTERM after 0 of 1 round\n"
    report = json.loads(out)
    assert [figure["name"] for figure in report["figures"]] == ["contestant 0"]
    assert (report["rounds"], report["bottleneck"], report["starts"]) == (0, None, [])


def test_a_bench_that_is_stopped_before_anything_is_measured_prints_nothing(
    stop_in: Stop, capfd: pytest.CaptureFixture[str]
) -> None:
    stop_in(0, 1)
    assert run(["bench", str(PHOTOS), "-m", "builtin", "-q"]) == 143
    assert capfd.readouterr() == ("", "dinoclassify: stopped by SIGTERM after 0 of 3 rounds\n")
