"""Machines that lack room, memory, processes, a home or a folder for temporary files."""

import errno
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinoclassify import Classifier
from dinoclassify.cli import run
from dinoclassify.errors import ModelError, WorkerError
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.openvino.api import reason_of
from dinoclassify.runtimes.openvino.network import converted
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from dinoclassify.system.cgroups import CgroupLimits
from dinoclassify.system.environment import make_do
from tests.conftest import PHOTOS


def test_torch_is_used_where_there_is_no_room_for_openvino(
    no_cache: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from dinoclassify.runtimes.openvino import int8  # noqa: F401 - it must not be imported first while this is patched

    monkeypatch.setattr("dinoclassify.runtimes.openvino.api.save_network", full)
    monkeypatch.setattr(Path, "write_text", full)
    classifier = Classifier(tiny, device="cpu")
    assert classifier.runtime == "torch"
    assert {row.status for row in classifier.predict(PHOTOS)} == {"ok"}
    assert caplog.messages[-1].startswith(f"no room for the OpenVINO form of {tiny} (No space left on device): set XDG")
    assert caplog.messages[-1].endswith(": going on with torch")
    with pytest.raises(
        ModelError, match=r"TMPDIR, to a folder that can be written and has room; or use --runtime torch"
    ):
        Classifier(tiny, runtime="openvino")
    assert list(no_cache.iterdir()) == [], "nothing half-made takes room"


def test_messages_of_openvino_are_shortened_to_the_reason(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where no compiled network is kept
    said = "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/plugin.cpp:54:\n{}\n\n"
    assert reason_of(RuntimeError(said.format("Check 'x' failed:\nno such\n"))) == "Check 'x' failed: no such"

    def refuse(reason: str) -> Callable[[], None]:
        def core() -> None:
            raise RuntimeError(said.format(reason))

        return core

    converted(open_model(tiny))
    monkeypatch.setattr("dinoclassify.runtimes.openvino.api.core", refuse("Resource temporarily unavailable"))
    with pytest.raises(ModelError, match=r"OpenVINO cannot load .* \(Resource temporarily unavailable\); or use"):
        Classifier(tiny, runtime="openvino")
    assert Classifier(tiny, device="cpu").runtime == "torch"
    monkeypatch.setattr("dinoclassify.runtimes.openvino.api.core", refuse("std::bad_alloc"))
    with pytest.raises(ModelError, match=r"there is not enough memory for .*: try a smaller --model, or allow more"):
        Classifier(tiny, device="cpu")


def test_too_small_an_address_space_is_refused_before_a_library_hangs(
    working_folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (900 << 20, 900 << 20))
    assert run(["predict", str(PHOTOS), "-m", tiny, "-o", "out.csv"]) == 5
    message = "ulimit -v allows 0.88 GiB of address space, a model needs 1 GiB at least: allow more"
    assert capsys.readouterr().err == f"dinoclassify: {message}\n"
    assert not list(working_folder.glob("*out.csv*"))


def test_an_openvino_failure_during_inference_is_a_model_error(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Exception from a.cpp:1:\nCaught exception: Exception from b.cpp:2:\n[CPU] Convolution node can't alloc\n\n"

    class Request:
        def start_async(self, *_: object, **__: object) -> None: ...

        def wait(self) -> None:
            raise RuntimeError(said)

    classifier = OpenVINORuntime(open_model(tiny))
    monkeypatch.setattr(classifier, "_idle", [Request()])
    with pytest.raises(
        ModelError, match=r"\(\[CPU\] Convolution node can't alloc\): allow more memory, or use --runtime"
    ):
        classifier([np.zeros((1, 3, 56, 56), np.uint8)])()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 5120000 bytes"), "not enough memory"),
        (RuntimeError("Exception from core.cpp:117:\nstd::bad_alloc"), "not enough memory"),
        (RuntimeError("can't start new thread"), "no more processes or threads may be started: allow more (ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes or threads"),
        (OSError(errno.ENOSPC, "No space left on device", "{temporary}/x"), "there is no room for temporary files ("),
        (OSError(errno.EROFS, "Read-only file system", "/dev/shm/pym-1"), "set TMPDIR to a folder that can be written"),
    ],
)
def test_what_a_machine_lacks_is_one_line(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(temporary=tmp_path)
    monkeypatch.setattr("dinoclassify.cli.app.hush", lambda: None)

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("dinoclassify.diagnostics.doctor.examine", fails)
    assert run(["doctor"]) == 1
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_libraries_use_one_thread_where_few_processes_may_be_started(
    monkeypatch: pytest.MonkeyPatch, tiny: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(processes=8))
    make_do()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("1", "1")
    assert Classifier(tiny, device="cpu").runtime == "torch"
    assert caplog.messages == [
        "few processes may be started (ulimit -u, or the limit of the container): going on with torch"
    ]


def test_a_worker_is_ended_if_the_loader_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tiny: str) -> None:
    def half_made(*_: object, multiprocessing_context: Any, **__: object) -> None:
        multiprocessing_context.Process(target=time.sleep, args=(60,)).start()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dinoclassify.decoding.feeds.torch_feed.DataLoader", half_made)
    with pytest.raises(WorkerError, match=r"try fewer --workers, or more processes \(ulimit -u\)"):
        list(Classifier(tiny, runtime="torch", device="cpu").predict(PHOTOS, workers=1))
    for process in multiprocessing.active_children():
        process.join(5)
    assert multiprocessing.active_children() == []
