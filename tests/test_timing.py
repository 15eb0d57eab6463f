"""The clock: what is charged to which stage."""

from collections.abc import Iterator

import pytest

from dinoclassify import Classifier, Encoder, timing
from dinoclassify.timing import STAGES, StageTimer, advice
from tests.conftest import PHOTOS


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The current time, which a test sets."""
    time = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: time[0])
    return time


def test_one_stage_is_charged_at_a_time(now: list[float]) -> None:
    clock = StageTimer()
    with clock.measure("decode"):
        now[0] += 1
        with clock.measure("walk"):
            now[0] += 2
        now[0] += 3
    now[0] += 50  # charged to nobody
    for _ in clock.measure_each("forward", ["batch"]):
        now[0] += 100
    with clock.measure("write"):
        now[0] += 4
    assert clock.shares() == {"walk": 0.2, "read": 0, "decode": 0.4, "forward": 0, "write": 0.4}


def test_waiting_for_workers_is_split_into_read_and_decode(now: list[float]) -> None:
    clock = StageTimer()
    with clock.measure("decode"):
        now[0] += 8
    clock.add_batch(images=10, read_seconds=3, decode_seconds=1)
    assert clock.shares() == {"walk": 0, "read": 0.75, "decode": 0.25, "forward": 0, "write": 0}
    assert clock.bottleneck() == "read"
    assert clock.summary() == (
        "time: walk 0 %, read 75 %, decode 25 %, forward 0 %, write 0 %; "
        "in a worker an image took 300.0 ms to read, 100.0 ms to decode"
    )


def test_waiting_for_a_path_list_is_not_charged_to_decoding(now: list[float]) -> None:
    clock = StageTimer()

    def items() -> Iterator[str]:
        now[0] += 5
        yield "nothing"

    for _ in clock.measure_each("decode", items()):
        clock.reassign_last("decode", to="walk")
    assert clock.shares()["walk"] == 1


def test_an_empty_run_has_shares() -> None:
    assert set(StageTimer().shares().values()) == {0.0}


def test_there_is_advice_for_every_stage() -> None:
    for stage in STAGES:
        for runtime in ("torch", "openvino"):
            assert advice(stage, runtime=runtime, precision="bf16")
    assert "int8" in advice("forward", runtime="openvino", precision="bf16")
    assert "int8" not in advice("forward", runtime="openvino", precision="int8")
    assert "--exact" in advice("decode", runtime="torch", precision="fp32", exact=True)


def test_advice_leaves_out_options_already_tried() -> None:
    refused = advice("forward", runtime="openvino", precision="bf16", int8=False)
    assert refused == "try a smaller --model"
    assert "openvino" not in advice("forward", runtime="torch", precision="fp32", openvino=True)
    assert "more --workers" in advice("decode", runtime="torch", precision="fp32", workers=3, processors=4)
    assert "--workers" not in advice("decode", runtime="torch", precision="fp32", workers=4, processors=4)


def test_a_model_knows_which_options_were_tried(tiny: str, now: list[float]) -> None:
    clock = StageTimer()
    with clock.measure("forward"):
        now[0] += 1
    assert "int8" in Classifier(tiny, runtime="openvino").advice(clock, exact=False)
    assert "int8" not in Classifier(tiny, precision="int8").advice(clock, exact=False)
    assert "int8" not in Encoder(tiny, runtime="openvino").advice(clock, exact=False)
    assert [row.status for row in Classifier(tiny).predict(PHOTOS / "coffee.jpg", timer=clock, workers=1)] == ["ok"]
    assert clock.workers == 1
