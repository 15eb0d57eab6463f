"""Results through a pipe, where torch computes nothing: so that nothing imports it."""

import faulthandler
import os
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

from dinoclassify.decoding.feeds.base import RECEIVE_TIMEOUT, ProcessDiedError, Receive
from dinoclassify.decoding.worker_process import DecodeDataset, Result, init_worker
from dinoclassify.errors import WorkerError
from dinoclassify.messages import first_line


def start(dataset: DecodeDataset, context: BaseContext, *, end_with_thread: bool) -> Receive:
    """Start a process that sends its results through a pipe; see `feeds.base.StartFeed`."""
    results, results_end = context.Pipe(duplex=False)
    process = context.Process(  # type: ignore[attr-defined]  # every context has it
        target=_decode, args=(dataset, results_end, end_with_thread), daemon=True
    )
    try:
        process.start()
    finally:
        results_end.close()  # only the process holds it: when it dies, the reader gets an error

    def receive() -> Result | None:
        """Wait a moment for the next result; return None if there is none yet."""
        try:
            if not results.poll(RECEIVE_TIMEOUT):
                if process.is_alive() or results.poll():
                    return None
                raise ProcessDiedError
            result: Result | str = results.recv()
        except (EOFError, OSError) as error:
            raise ProcessDiedError from error
        if isinstance(result, str):
            raise WorkerError(f"a decoding process failed: {result}")
        return result

    return receive


def _decode(dataset: DecodeDataset, results: "Connection[Result | str, object]", end_with_thread: bool) -> None:
    """Decode lists until the main process is gone. An unexpected error ends the run, rather than only this process."""
    faulthandler.disable()  # a crash becomes a row, not a traceback
    init_worker(end_with_thread=end_with_thread)
    try:
        while True:
            results.send(dataset.__getitems__([]))
    except (MemoryError, OSError):  # of this process alone: another one tries again
        pass
    except Exception as error:
        results.send(first_line(error))
    finally:
        os._exit(1)  # no clean-up: what this process has inherited belongs to the main one
