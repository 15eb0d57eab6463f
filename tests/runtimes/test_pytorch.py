"""The PyTorch runtime: probabilities, broken answers, threads, several devices and compiled models."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError
from dinoclassify.models.open import open_model
from dinoclassify.runtimes import open_runtime
from dinoclassify.runtimes.pytorch import Replicas, TorchRuntime
from dinoclassify.types.compute import Precision
from dinoclassify.types.preprocessing import Preprocessing
from tests.helpers.toy import CPU, Toy, expected, in_batches, random_pixels, runtime


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 2e-2), ("fp16", 2e-3)])
def test_probabilities(precision: Precision, tolerance: float) -> None:
    module, pixels = Toy(), random_pixels(5)
    answer = runtime(module, precision)([pixels])()
    assert answer.dtype == np.float32
    torch.testing.assert_close(answer, expected(module, pixels), rtol=0, atol=tolerance)


def test_multi_label_answers_are_sigmoids() -> None:
    answer = runtime(Toy(), multi_label=True)([random_pixels(3)])()
    assert not np.allclose(answer.sum(axis=1), 1)
    assert ((answer >= 0) & (answer <= 1)).all()


def test_mismatched_image_size_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Input image size (8*8) doesn't match model (9*9).")

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "forward", refuse)
        with pytest.raises(ModelError, match=r"toy does not take the 8 x 8 pixels that its image processor makes: Inp"):
            runtime(Toy())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_answers_that_stay_non_finite_are_nan(precision: Precision) -> None:
    module = Toy()
    with torch.no_grad():
        module.head.bias[2] = float("inf")
    assert np.isnan(runtime(module, precision)([random_pixels(3)])()).all()


def test_only_the_bad_rows_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy(), "bf16")
    forward = Toy.forward

    def spoil(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        answer = forward(self, pixel_values)
        answer.logits[pixel_values.mean(dim=(1, 2, 3)) > 1] = torch.nan
        return answer

    monkeypatch.setattr(Toy, "forward", spoil)
    pixels = random_pixels(4)
    pixels[2] = 255
    assert np.isnan(run([pixels])()).all(axis=1).tolist() == [False, False, True, False]


def test_no_more_threads_than_available_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, before = runtime(Toy())._model, torch.get_num_threads()
    try:
        for allowed, cpus, taken in [(4, 2, 2), (2, 8, 2)]:  # never more than OMP_NUM_THREADS allows
            torch.set_num_threads(allowed)
            monkeypatch.setattr("dinoclassify.runtimes.pytorch.available_cpus", lambda cpus=cpus: cpus)
            open_runtime(classifier, "torch", ["cpu"])
            assert torch.get_num_threads() == taken
    finally:
        torch.set_num_threads(before)


def test_several_devices_take_turns_and_answers_stay_in_order() -> None:
    modules = [Toy(), Toy()]
    modules[1].load_state_dict(modules[0].state_dict())
    replicas = Replicas([runtime(module) for module in modules])
    for module in modules:
        module.sizes.clear()
    batches = np.split(random_pixels(20), [3, 7, 13])
    answers = [replicas([batch]) for batch in batches]
    for batch, answer in zip(batches, answers, strict=True):
        torch.testing.assert_close(answer(), expected(modules[0], batch))
    assert [module.sizes for module in modules] == [[3, 6], [4, 7]]
    assert (replicas.device, replicas.ahead) == ("cpu,cpu", 1), "one more under way than there is for one device"


def test_compiled_models_see_batches_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    module, pixels = Toy(), random_pixels(11)
    run = runtime(module, compiled=True)
    module.sizes.clear()
    for batch in in_batches(pixels, 4):
        torch.testing.assert_close(run([batch])(), expected(module, batch))
    assert module.sizes == [8, 8, 8], "padded to what pays best on a CPU"


def test_failed_compilation_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def forward(self, pixel_values: Tensor) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no compiler here\nand much more")

    broken = Broken()
    broken.weight = nn.Parameter(torch.zeros(1))
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: broken)
    with pytest.raises(ModelError, match=r"--compile does not work here, leave it out: no compiler here$"):
        runtime(Toy(), compiled=True)([random_pixels(2)])()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own use of it
def test_compiled_answers_are_the_same() -> None:
    module, pixels = Toy(), random_pixels(6)
    run = runtime(module, compiled=True)
    for batch in in_batches(pixels, 4):
        torch.testing.assert_close(run([batch])(), expected(module, batch))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parts_are_computed_as_one_batch(precision: Precision, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight of 7e4 is infinite in fp16: rows of all parts are computed again."""
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    module, pixels = Toy(weight=7e4 if precision == "fp16" else 1), random_pixels(7)
    run = runtime(module, precision, compiled=compiled)
    joined = run([pixels])()
    module.sizes.clear()
    assert np.array_equal(run(np.split(pixels, [1, 3]))(), joined)
    first = 8 if compiled else 7
    assert module.sizes == ([first] if precision == "fp32" else [first, 7])
    torch.testing.assert_close(joined, expected(module, pixels))


def test_images_as_large_as_they_come_are_computed_one_by_one() -> None:
    model = runtime(Toy())._model
    assert isinstance(model.preprocessing, Preprocessing)
    sizeless = replace(model, preprocessing=replace(model.preprocessing, resize=None, crop=None))
    assert open_runtime(model, "torch", ["cpu"]).batch_size == 8
    assert open_runtime(sizeless, "torch", ["cpu"]).batch_size == 1


class Convolutional(Toy):
    """A convolution and a small head; some kinds of it can compute only with channels first."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.convolution = nn.Conv2d(3, 3, 3)
        if kind == "has five dimensions":
            self.more = nn.Parameter(torch.zeros(1, 1, 1, 1, 1))

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        values = self.convolution(pixel_values)
        count = len(values)
        if self.kind == "views an image":
            values = values.view(count, -1)
        elif self.kind == "views a batch":  # one image alone can be viewed so with channels last
            values = values.view(count * 3, -1)
        return SimpleNamespace(logits=self.head(values.reshape(count, 3, -1).mean(dim=2)))


@pytest.mark.parametrize("kind", ["takes it", "views an image", "views a batch", "has five dimensions"])
def test_convolutions_have_their_channels_last_if_the_model_takes_it(kind: str) -> None:
    module, pixels = Convolutional(kind), random_pixels(5)
    run = runtime(module)
    (weight,) = [value for name, value in run._module.named_parameters() if name == "convolution.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last) == (kind == "takes it")
    values = (torch.from_numpy(pixels).float() - run._mean) / run._std
    torch.testing.assert_close(run([pixels])(), module(values).logits.softmax(dim=1).detach().numpy())


def test_a_transformer_keeps_its_layout(tiny: str) -> None:
    run = TorchRuntime(open_model(tiny), CPU, "fp32")
    assert all(value.is_contiguous() for value in run._module.parameters())
