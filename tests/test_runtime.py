"""The PyTorch runtime: devices, precisions, answers that are no numbers, and memory that runs out."""

import shutil
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.models import ImageClassifier
from dinoclassify.preprocessing import Preprocessing
from dinoclassify.runtimes import Precision, cpu_has_bf16
from dinoclassify.runtimes.pytorch import Replicas, TorchRuntime, find_devices

CPU = torch.device("cpu")
LABELS: tuple[str, ...] = ("a", "b", "c", "d")
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


class Toy(nn.Module):
    """Channel means, through one matrix: 3 -> 4 classes. Fails as memory does beyond ``most`` pictures."""

    def __init__(self, most: int = 1000, weight: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        torch.nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.head.weight[0] *= weight
        self.most = most
        self.sizes: list[int] = []

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return SimpleNamespace(logits=self.head(pixel_values.mean(dim=(2, 3))))


def runtime(
    module: Toy, precision: Precision | Literal["auto"] = "fp32", *, multi_label: bool = False, compiled: bool = False
) -> TorchRuntime:
    def load() -> nn.Module:
        fresh = Toy(module.most)
        fresh.load_state_dict(module.state_dict())
        fresh.sizes = module.sizes
        return fresh

    preprocessing = Preprocessing(resize=(8, 8), crop=None, resample=3, mean=MEAN, std=STD)
    classifier = ImageClassifier(
        name="toy",
        revision=None,
        labels=LABELS,
        multi_label=multi_label,
        preprocessing=preprocessing,
        load=load,
        digest=lambda: "toy",
    )
    return TorchRuntime(classifier, CPU, precision, compiled=compiled)


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def expected(module: Toy, pixels: Tensor) -> Tensor:
    values = (pixels.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return torch.softmax(nn.functional.linear(values.mean(dim=(2, 3)), module.head.weight, module.head.bias), dim=1)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 2e-2), ("fp16", 2e-3)])
def test_probabilities(precision: Precision, tolerance: float) -> None:
    module, pixels = Toy(), pictures(5)
    answer = runtime(module, precision)(pixels)()
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, expected(module, pixels).detach(), rtol=0, atol=tolerance)


def test_multi_label_answers_are_sigmoids() -> None:
    answer = runtime(Toy(), multi_label=True)(pictures(3))()
    assert not torch.allclose(answer.sum(dim=1), torch.ones(3))
    assert ((answer >= 0) & (answer <= 1)).all()


@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_running_out_of_memory_halves_the_batch_and_loses_nothing(most: int, caplog: pytest.LogCaptureFixture) -> None:
    module, pixels = Toy(most), pictures(19)
    run = runtime(module)
    module.sizes.clear()
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach())
    assert sum(size for size in module.sizes if size <= most) == 19, "each picture once"
    assert all("going on with batches of" in message for message in caplog.messages)
    module.sizes.clear()
    run(pixels)()
    assert max(module.sizes) <= most, "the smaller batch is remembered"


def test_one_picture_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(ModelError, match="one picture with the model does not fit in the memory of cpu: try"):
        runtime(Toy(most=0))(pictures(4))()


def test_parts_that_do_not_fit_together_are_found_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Input image size (8*8) doesn't match model (9*9).")

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "forward", refuse)
        with pytest.raises(ModelError, match=r"toy does not take the 8 x 8 pixels that its image processor makes: Inp"):
            runtime(Toy())


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy())
    monkeypatch.setattr(Toy, "forward", lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run(pictures(2))()


def test_answers_that_are_no_numbers_are_computed_again_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    """A weight of 7e4 is infinite in fp16 but fine in fp32, if it is read from the checkpoint again."""
    module, pixels = Toy(weight=7e4), pictures(4)
    run = runtime(module, "fp16")
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach())
    run(pixels)()
    assert caplog.messages == ["some outputs in fp16 are not finite and are computed again in fp32"], "said once"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_answers_that_stay_no_numbers_are_nan(precision: Precision) -> None:
    module = Toy()
    with torch.no_grad():
        module.head.bias[2] = float("inf")
    assert runtime(module, precision)(pictures(3))().isnan().all()


def test_only_the_bad_rows_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy(), "bf16")
    forward = Toy.forward

    def spoil(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        answer = forward(self, pixel_values)
        answer.logits[pixel_values.mean(dim=(1, 2, 3)) > 1] = torch.nan
        return answer

    monkeypatch.setattr(Toy, "forward", spoil)
    pixels = pictures(4)
    pixels[2] = 255
    assert run(pixels)().isnan().all(dim=1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "cuda:-1", "mps:1", ""])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
        find_devices(name)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_devices("cuda:0") == [torch.device("cuda:0")]
    with pytest.raises(UsageError, match="--device cuda:1: 1 CUDA devices found"):
        find_devices("cuda:1")
    with pytest.raises(UsageError, match="no Metal device"):
        find_devices("mps")


def test_auto_takes_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in [(True, False, ["cuda"] * 2), (False, True, ["mps"]), (False, False, ["cpu"])]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=cuda: value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda value=mps: value)
        assert [device.type for device in find_devices("auto")] == expected


def test_auto_precision_is_half_where_the_cpu_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in [(True, "bf16"), (False, "fp32")]:
        monkeypatch.setattr("dinoclassify.runtimes.pytorch.cpu_has_bf16", lambda value=fast: value)
        assert runtime(Toy(), "auto").precision == expected
    assert isinstance(cpu_has_bf16(), bool)


def test_several_devices_take_turns_and_answers_stay_in_order() -> None:
    modules = [Toy(), Toy()]
    modules[1].load_state_dict(modules[0].state_dict())
    replicas = Replicas([runtime(module) for module in modules])
    for module in modules:
        module.sizes.clear()
    batches = pictures(20).split([3, 4, 6, 7])
    answers = [replicas(batch) for batch in batches]
    for batch, answer in zip(batches, answers, strict=True):
        torch.testing.assert_close(answer(), expected(modules[0], batch).detach())
    assert [module.sizes for module in modules] == [[3, 6], [4, 7]]
    assert (replicas.device, replicas.ahead) == ("cpu,cpu", 1), "one more under way than there is for one device"


def test_all_gpus_are_used_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [str(device) for device in find_devices("cuda")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(device) for device in find_devices("cuda:2")] == ["cuda:2"]


def test_compiled_models_see_batches_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    module, pixels = Toy(), pictures(11)
    run = runtime(module, compiled=True)
    module.sizes.clear()
    for batch in pixels.split(4):
        torch.testing.assert_close(run(batch)(), expected(module, batch).detach())
    assert module.sizes == [8, 8, 8], "padded to what pays best on a CPU"


def test_a_model_that_does_not_compile_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def forward(self, pixel_values: Tensor) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no compiler here\nand much more")

    broken = Broken()
    broken.weight = nn.Parameter(torch.zeros(1))
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: broken)
    with pytest.raises(ModelError, match=r"--compile does not work here, leave it out: no compiler here$"):
        runtime(Toy(), compiled=True)(pictures(2))()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own use of it
def test_compiled_answers_are_the_same() -> None:
    module, pixels = Toy(), pictures(6)
    run = runtime(module, compiled=True)
    for batch in pixels.split(4):
        torch.testing.assert_close(run(batch)(), expected(module, batch).detach())
