"""The PyTorch runtime: devices, precisions, answers that are no numbers, and memory that runs out."""

import shutil
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinoclassify.decoding.shared_memory import ResultBuffer, empty_pinned
from dinoclassify.errors import ModelError, UsageError
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.runtimes import open_runtime
from dinoclassify.runtimes.devices import cpu_has_bf16, find_devices
from dinoclassify.runtimes.pytorch import JUDGED_FROM, Replicas, TorchRuntime
from dinoclassify.types.compute import Precision
from dinoclassify.types.preprocessing import Preprocessing

CPU = torch.device("cpu")
LABELS: tuple[str, ...] = ("a", "b", "c", "d")
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


class Toy(nn.Module):
    """Channel means, through one matrix: 3 -> 4 classes. Fails as memory does beyond ``most`` images."""

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


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU has: `auto` is fp16, bf16 is there too, and bright images are too much for fp16."""
    forward = Toy.forward

    def overflow(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        answer = forward(self, pixel_values)
        if pixel_values.dtype == torch.float16:
            answer.logits[pixel_values.mean(dim=(1, 2, 3)) > 1] = torch.inf
        return answer

    monkeypatch.setattr(Toy, "forward", overflow)
    monkeypatch.setattr("dinoclassify.runtimes.pytorch._choose_precision", lambda *_: "fp16")
    monkeypatch.setattr("dinoclassify.runtimes.pytorch.has_bf16", lambda *_: True)


def bright(count: int, *numbers: int) -> Tensor:
    """Some images, of which those with these numbers are white; all of them if no number is given."""
    pixels = images(count)
    pixels[list(numbers) or slice(None)] = 255
    return pixels


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def expected(module: Toy, pixels: Tensor) -> Tensor:
    values = (pixels.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return torch.softmax(nn.functional.linear(values.mean(dim=(2, 3)), module.head.weight, module.head.bias), dim=1)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 2e-2), ("fp16", 2e-3)])
def test_probabilities(precision: Precision, tolerance: float) -> None:
    module, pixels = Toy(), images(5)
    answer = runtime(module, precision)(pixels)()
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, expected(module, pixels).detach(), rtol=0, atol=tolerance)


def test_multi_label_answers_are_sigmoids() -> None:
    answer = runtime(Toy(), multi_label=True)(images(3))()
    assert not torch.allclose(answer.sum(dim=1), torch.ones(3))
    assert ((answer >= 0) & (answer <= 1)).all()


@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_running_out_of_memory_halves_the_batch_and_loses_nothing(most: int, caplog: pytest.LogCaptureFixture) -> None:
    module, pixels = Toy(most), images(19)
    run = runtime(module)
    module.sizes.clear()
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach())
    assert sum(size for size in module.sizes if size <= most) == 19, "each image once"
    assert all("going on with batches of" in message for message in caplog.messages)
    module.sizes.clear()
    run(pixels)()
    assert max(module.sizes) <= most, "the smaller batch is remembered"


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    ],
)
def test_the_batch_is_halved_whichever_library_runs_out_of_memory(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, pixels = Toy(), images(8)
    run = runtime(module)
    forward = Toy.forward

    def run_out(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if len(pixel_values) > 3:
            raise RuntimeError(said)
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", run_out)
    module.sizes.clear()
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach())
    assert module.sizes == [2] * 4


def test_a_convolution_that_cannot_be_done_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy())

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(Toy, "forward", fail)
    with pytest.raises(RuntimeError, match="unable to find an engine"):
        run(images(4))()


def test_memory_that_cannot_be_pinned_is_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(shape: torch.Size, dtype: torch.dtype, pin_memory: bool = False) -> Tensor:
        if pin_memory:
            raise RuntimeError(said)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", refuse)
    said = "CUDA error: out of memory"
    assert empty_pinned((3, 4), torch.float32).shape == (3, 4)
    slots = ResultBuffer(1)
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    read, _ = slots.read(0, slots.write(0, pixels, []), pinned=True)
    assert read.numpy().tolist() == pixels.tolist()
    said = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal"):
        empty_pinned((3, 4), torch.float32)


@pytest.mark.parametrize("at_first", [True, False])
def test_an_image_that_no_engine_computes_again_fails_alone(at_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN says so where it has no memory to try its engines in."""
    run = runtime(Toy(weight=7e4), "fp16")
    forward = Toy.forward

    def fail(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return forward(self, pixel_values)

    if not at_first:
        monkeypatch.setattr(TorchRuntime, "_try_out", lambda _: 3)
    monkeypatch.setattr(Toy, "forward", fail)
    assert run(images(1))().isnan().all()


def test_one_image_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(ModelError, match="one image with the model does not fit in the memory of cpu: try"):
        runtime(Toy(most=0))(images(4))()


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
        run(images(2))()


def test_answers_that_are_no_numbers_are_computed_again_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    """A weight of 7e4 is infinite in fp16 but fine in fp32, if it is read from the checkpoint again."""
    module, pixels = Toy(weight=7e4), images(4)
    run = runtime(module, "fp16")
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach())
    run(pixels)()
    assert caplog.messages == ["some outputs in fp16 are not finite and are computed again in fp32"], "said once"


@pytest.mark.parametrize("where", ["its constants", "the model", "one image"])
@pytest.mark.usefixtures("overflowing")
def test_rows_that_have_no_memory_for_fp32_fail_and_no_others(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, pixels = Toy(), bright(4, 2)
    run = runtime(module, "fp16")
    tried: list[str] = []
    to, forward, tensor = Toy.to, Toy.forward, torch.tensor

    def run_out_of_memory(name: str) -> None:
        tried.append(name)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def make(values: object, **options: Any) -> Tensor:
        if "device" in options and where == "its constants":
            run_out_of_memory("its constants")
        return tensor(values, **options)

    def move(self: Toy, device: torch.device, dtype: torch.dtype) -> Toy:
        if dtype == torch.float32 and where == "the model":
            run_out_of_memory("the model")
        return to(self, device, dtype)

    def run_forward(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            run_out_of_memory("one image")
        return forward(self, pixel_values)

    monkeypatch.setattr(torch, "tensor", make)
    monkeypatch.setattr(Toy, "to", move)
    monkeypatch.setattr(Toy, "forward", run_forward)
    module.sizes.clear()
    for _ in range(2):
        answer = run(pixels)()
        assert answer.isnan().all(dim=1).tolist() == [False, False, True, False]
        torch.testing.assert_close(answer[:2], expected(module, pixels[:2]).detach(), rtol=0, atol=2e-3)
    assert tried == [where], "it is not tried for every batch"
    assert module.sizes == [4, 4], "the batch is as large as before"
    said = "some outputs in fp16 are not finite, and their images fail: cpu has no memory to compute them again in fp32"
    assert caplog.messages == [f"{said}; try --precision bf16"]


@pytest.mark.usefixtures("overflowing")
def test_memory_that_runs_out_later_in_fp32_fails_the_rows_of_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, pixels = Toy(), bright(3, 0)
    run = runtime(module, "fp16")
    assert run(pixels)().isfinite().all()
    forward = Toy.forward

    def fill(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", fill)
    for _ in range(2):
        assert run(pixels)().isnan().all(dim=1).tolist() == [True, False, False]
    assert [message.split(":")[0] for message in caplog.messages] == [
        "some outputs in fp16 are not finite and are computed again in fp32",
        "some outputs in fp16 are not finite, and their images fail",
    ]


@pytest.mark.parametrize("wider", ["bf16", "fp32"])
@pytest.mark.usefixtures("overflowing")
def test_a_model_that_overflows_in_fp16_goes_on_in_a_wider_precision(
    wider: Precision, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.pytorch.has_bf16", lambda *_: wider == "bf16")
    module, pixels = Toy(), bright(JUDGED_FROM, *range(0, JUDGED_FROM, 10))
    run = runtime(module, "auto")
    replicas = Replicas([run])
    answers = [run(pixels) for _ in range(2)]  # the second is under way in fp16 when the first is judged
    assert replicas.precision == "fp16"
    for answer in answers:
        torch.testing.assert_close(answer(), expected(module, pixels).detach(), rtol=0, atol=2e-3)
    assert (run.precision, replicas.precision) == (wider, wider)
    module.sizes.clear()
    torch.testing.assert_close(run(pixels)(), expected(module, pixels).detach(), rtol=0, atol=2e-2)
    assert module.sizes == [JUDGED_FROM], "nothing is computed twice"
    assert caplog.messages == [
        "some outputs in fp16 are not finite and are computed again in fp32",
        f"11 % of the outputs in fp16 are not finite: going on in {wider}",
    ]


@pytest.mark.usefixtures("overflowing")
def test_fp16_that_was_asked_for_stays_and_the_better_choice_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    run = runtime(Toy(), "fp16")
    for _ in range(3):
        assert run(bright(JUDGED_FROM))().isfinite().all()
    assert run.precision == "fp16"
    assert caplog.messages[1:] == ["100 % of the outputs in fp16 are not finite: --precision bf16 is the better choice"]


@pytest.mark.usefixtures("overflowing")
def test_a_few_overflows_do_not_change_the_precision() -> None:
    run = runtime(Toy(), "auto")
    assert run(bright(1))().isfinite().all(), "all of them, but too few to judge by"
    for _ in range(3):
        assert run(bright(JUDGED_FROM, 0, 1))().isfinite().all()
    assert run.precision == "fp16"


@pytest.mark.usefixtures("overflowing")
def test_fp16_stays_where_there_is_no_memory_for_another_model(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = runtime(Toy(), "auto")
    to = Toy.to

    def move(self: Toy, device: torch.device, dtype: torch.dtype) -> Toy:
        if dtype == torch.bfloat16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, device, dtype)

    monkeypatch.setattr(Toy, "to", move)
    for _ in range(2):
        assert run(bright(JUDGED_FROM))().isfinite().all()
    assert run.precision == "fp16"
    assert caplog.messages[1:] == [
        "100 % of the outputs in fp16 are not finite, and cpu has no memory for bf16 beside it: try --precision bf16"
    ]


@pytest.mark.usefixtures("overflowing")
def test_a_compiled_model_is_compiled_again_in_the_wider_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.dtype] = []

    def note(module: Toy, dynamic: bool) -> Toy:
        compiled.append(module.head.weight.dtype)
        return module

    monkeypatch.setattr(torch, "compile", note)
    run = runtime(Toy(), "auto", compiled=True)
    run(bright(JUDGED_FROM))()
    assert run.precision == "bf16"
    assert compiled == [torch.float16, torch.bfloat16]


def tf32_settings() -> tuple[object, ...]:
    if hasattr(torch.backends.cudnn, "conv"):
        return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_is_not_tf32_and_a_program_keeps_its_settings(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program has asked for TF32; with fp16 the second try is in fp32."""
    seen: dict[torch.dtype, tuple[object, ...]] = {}
    forward = Toy.forward

    def look(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        seen[pixel_values.dtype] = tf32_settings()
        if len(pixel_values) > 3:
            raise ValueError("too many")
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", look)
    torch.set_float32_matmul_precision("high")
    try:
        before = tf32_settings()
        monkeypatch.setattr(TorchRuntime, "_is_cuda", property(lambda _: True, lambda *_: None), raising=False)
        run = runtime(Toy(weight=7e4 if precision == "fp16" else 1), precision)
        run(images(3))()
        with pytest.raises(ValueError, match="too many"):
            run(images(4))()
        assert tf32_settings() == before
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    off = ("ieee", "ieee") if "ieee" in seen[torch.float32] else (False, False)
    assert seen[torch.float32] == off
    assert before != off
    assert seen.get(torch.float16, before) == before, "half precision is none of its business"


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="before torch 2.9 no setting is inherited")
def test_what_a_program_sets_for_all_of_cudnn_is_inherited_after_fp32_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TorchRuntime, "_is_cuda", property(lambda _: True, lambda *_: None), raising=False)
    cudnn = cast(Any, torch.backends.cudnn)
    conv, parent = cudnn.conv.fp32_precision, cudnn.fp32_precision
    try:
        cudnn.conv.fp32_precision, cudnn.fp32_precision = "none", "tf32"
        runtime(Toy())(images(3))()
        assert cudnn.conv.fp32_precision == "tf32"
        cudnn.fp32_precision = "ieee"
        assert cudnn.conv.fp32_precision == "ieee"
    finally:
        cudnn.conv.fp32_precision, cudnn.fp32_precision = conv, parent


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_answers_that_stay_no_numbers_are_nan(precision: Precision) -> None:
    module = Toy()
    with torch.no_grad():
        module.head.bias[2] = float("inf")
    assert runtime(module, precision)(images(3))().isnan().all()


def test_only_the_bad_rows_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy(), "bf16")
    forward = Toy.forward

    def spoil(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        answer = forward(self, pixel_values)
        answer.logits[pixel_values.mean(dim=(1, 2, 3)) > 1] = torch.nan
        return answer

    monkeypatch.setattr(Toy, "forward", spoil)
    pixels = images(4)
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


def test_torch_takes_no_more_threads_than_there_are_processors_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, before = runtime(Toy())._model, torch.get_num_threads()
    try:
        for allowed, cpus, taken in [(4, 2, 2), (2, 8, 2)]:  # never more than OMP_NUM_THREADS allows
            torch.set_num_threads(allowed)
            monkeypatch.setattr("dinoclassify.runtimes.available_cpus", lambda cpus=cpus: cpus)
            open_runtime(classifier, "torch", [CPU])
            assert torch.get_num_threads() == taken
    finally:
        torch.set_num_threads(before)


def test_several_devices_take_turns_and_answers_stay_in_order() -> None:
    modules = [Toy(), Toy()]
    modules[1].load_state_dict(modules[0].state_dict())
    replicas = Replicas([runtime(module) for module in modules])
    for module in modules:
        module.sizes.clear()
    batches = images(20).split([3, 4, 6, 7])
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
    module, pixels = Toy(), images(11)
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
        runtime(Toy(), compiled=True)(images(2))()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own use of it
def test_compiled_answers_are_the_same() -> None:
    module, pixels = Toy(), images(6)
    run = runtime(module, compiled=True)
    for batch in pixels.split(4):
        torch.testing.assert_close(run(batch)(), expected(module, batch).detach())
