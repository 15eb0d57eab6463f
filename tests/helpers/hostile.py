"""A decoder that crashes, hangs or stops its process, and checks of what becomes of the rows."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

from dinoclassify.decoding.batch import DecodedImage
from dinoclassify.decoding.decode import decode
from dinoclassify.decoding.loader import load_batches
from dinoclassify.pipeline import classify
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Source
from tests.helpers.levels import LABELS, TINY, level_of


def hostile(source: Source, **options: object) -> DecodedImage:
    """`decode`, but files with certain names do to the process what a buggy decoder, or the system, may do."""
    name = os.path.basename(source.path)
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("leave"):
        os._exit(0)
    if name.startswith("once") and not os.path.exists(source.path + ".seen"):
        Path(source.path + ".seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("collect"):
        gc.collect()
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if name.startswith("lock"):
        _hold_locks()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(source, **options)  # type: ignore[arg-type]  # as they come


def _hold_locks() -> None:
    """Hold the locks of torch's loop, if it runs in this process; the plain feed has none."""
    frame = sys._getframe()
    while "done_event" not in frame.f_locals:
        if frame.f_back is None:
            return
        frame = frame.f_back
    shared = frame.f_locals
    shared["index_queue"]._rlock.acquire()
    shared["data_queue"]._wlock.acquire()
    if hasattr(shared["done_event"], "_cond"):  # as multiprocessing's own has
        shared["done_event"]._cond.acquire()


def run(
    paths: list[str], *, batch_size: int = 4, workers: int = 2, timeout: float = 60, live: bool = False
) -> list[Prediction]:
    sources = map(Source, paths)
    batches = load_batches(
        sources,
        TINY,
        batch_size=batch_size,
        workers=workers,
        exact=False,
        max_pixels=10_000,
        timeout=timeout,
        live=live,
    )
    return list(classify(batches, level_of, LABELS))


def check(predictions: list[Prediction], paths: list[str], codes: dict[str, str]) -> None:
    """Check that every input has its own prediction, or the error code given for the start of its name."""
    assert [prediction.path for prediction in predictions] == paths
    for prediction in predictions:
        assert prediction.size == os.path.getsize(prediction.path), "so that a later run knows it again"
        name = os.path.basename(prediction.path)
        code = next((code for start, code in codes.items() if name.startswith(start)), None)
        assert (prediction.failure.code if prediction.failure else None) == code, name
        assert code is not None or prediction.index == int(name[-7:-4]), name
