"""The clock: what is charged to which stage."""

from collections.abc import Iterator
from typing import Any

import pytest

from dinoclassify import Classifier, Encoder, timing
from dinoclassify.timing import STAGES, Stage, StageTimer, advice
from dinoclassify.types.run_options import RunOptions
from tests.conftest import PHOTOS


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The current time, which a test sets."""
    time = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: time[0])
    return time


@pytest.fixture
def forward_takes_all(now: list[float]) -> RunOptions:
    """The options of a run that has spent all its time in the model."""
    clock = StageTimer()
    with clock.measure("forward"):
        now[0] += 1
    return RunOptions(timer=clock)


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
    command: dict[Stage, str] = {"walk": "--files-from", "write": "--format csv"}
    for stage in STAGES:
        for runtime in ("torch", "openvino"):
            assert advice(stage, runtime=runtime, precision="bf16", command=command).startswith("try ")
    assert advice("walk", runtime="torch", precision="bf16") == ""
    assert "int8" in advice("forward", runtime="openvino", precision="bf16")
    assert "int8" not in advice("forward", runtime="openvino", precision="int8")


def test_advice_fits_the_model_and_the_processor() -> None:
    given = advice("forward", runtime="openvino", precision="fp32", smaller=False, bf16=True)
    assert given == "try --precision bf16 or --precision int8 in runs of over 6,000 images"
    assert advice("forward", runtime="torch", precision="bf16", smaller=False, bf16=True) == ""


def test_advice_leaves_out_options_already_tried() -> None:
    refused = advice("forward", runtime="openvino", precision="bf16", int8=False)
    assert refused == "try a smaller --model"
    for workers, cure in ((3, "more --workers (up to one a processor)"), (4, "smaller images (all processors decode)")):
        assert advice("decode", runtime="torch", precision="fp32", workers=workers, processors=4) == f"try {cure}"


@pytest.mark.parametrize(
    ("device", "precision", "compiled", "own_batch_size", "expected"),
    [
        ("cuda:0", "fp16", False, False, "try --compile, a larger --batch-size or a smaller --model"),
        ("cuda:0,cuda:1", "bf16", False, False, "try --compile, a larger --batch-size or a smaller --model"),
        ("cuda:0", "fp16", True, False, "try a larger --batch-size or a smaller --model"),
        ("cuda:0", "fp16", True, True, "try a smaller --model"),
        ("mps", "fp16", False, False, "try a larger --batch-size or a smaller --model"),
        ("cpu", "fp16", False, False, "try a smaller --model"),
    ],
)
def test_advice_to_a_run_on_pytorch_fits_its_device_and_options(
    device: str, precision: str, compiled: bool, own_batch_size: bool, expected: str
) -> None:
    assert expected == advice(
        "forward",
        runtime="torch",
        precision=precision,
        device=device,
        compiled=compiled,
        own_batch_size=own_batch_size,
    )


@pytest.mark.parametrize(
    ("settings", "is_advised"),
    [({}, True), ({"runtime": "torch"}, False), ({"compiled": True}, False), ({"precision": "fp16"}, False)],
)
def test_openvino_is_advised_only_where_it_is_missing_and_would_be_chosen(
    settings: dict[str, Any],
    is_advised: bool,
    tiny: str,
    forward_takes_all: RunOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.find_spec", lambda _: None)
    monkeypatch.setattr("dinoclassify.loaded_model.find_spec", lambda _: None)
    monkeypatch.setattr("dinoclassify.runtimes.pytorch._compile", lambda module: module)
    given = Classifier(tiny, device="cpu", **settings).advice(forward_takes_all)
    assert ("pip install 'dinoclassify[openvino]'" in given) == is_advised


def test_a_model_knows_which_options_were_tried(tiny: str, forward_takes_all: RunOptions) -> None:
    assert "int8" in Classifier(tiny, runtime="openvino").advice(forward_takes_all)
    assert "int8" not in Classifier(tiny, precision="int8").advice(forward_takes_all)
    assert "int8" not in Encoder(tiny, runtime="openvino").advice(forward_takes_all)
    clock = forward_takes_all.timer
    assert [row.status for row in Classifier(tiny).predict(PHOTOS / "coffee.jpg", timer=clock, workers=1)] == ["ok"]
    assert clock.workers == 1
