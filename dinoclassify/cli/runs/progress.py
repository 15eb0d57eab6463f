"""What a run says while it goes on: its model, a progress bar, where its time went, and why it ended early."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from dinoclassify.cli.option_groups import Messages
from dinoclassify.cli.runs.signals import finishing_batches
from dinoclassify.cli.terminal import COUNTER, hush, progress_bar, say
from dinoclassify.errors import OutputClosedError
from dinoclassify.messages import count_of
from dinoclassify.timing import Stage
from dinoclassify.types.run_options import RunOptions
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.loaded_model import LoadedModel
    from dinoclassify.models.info import ModelInfo

log = logging.getLogger("dinoclassify")

T = TypeVar("T")

_TOTAL_GRACE = 1.0  # seconds to wait for the total when the last item is done


def log_model(model: "ModelInfo") -> None:
    """Log the model that was opened."""
    name = f"{model.name}, revision {model.revision}," if model.revision else model.name
    log.info("%s on %s in %s by %s", name, model.device, model.precision, model.runtime)


def log_stages(run: RunOptions, model: "LoadedModel", command: Mapping[Stage, str] | None = None) -> None:
    """Log where the time of a run went, and what would make it faster. ``command``: see `timing.advice`."""
    advice = model.advice(run, command)
    log.info("%s%s", run.timer.summary(), f"; to be faster: {advice}" if advice else "")


@contextmanager
def report_interruption(tally: Tally, resume_hint: Callable[[], str] = str) -> Iterator[Callable[[], bool]]:
    """Run the block inside `finishing_batches`; if it ends early, say how far it came and how to go on."""

    def report(why: object) -> None:
        say(f"{why} after {count_of(tally.made, 'image')}{resume_hint() if tally.has_rows else ''}")
        hush()

    try:
        with finishing_batches(report) as stop:
            yield stop
    except OutputClosedError:
        hush()
        raise


def with_progress(
    items: Iterator[T],
    messages: Messages,
    *,
    done: Callable[[], int] | None = None,
    total: Callable[[], int] | None = None,
) -> Iterator[T]:
    """Return the same items; if ``messages`` want a bar, it advances when the caller asks for the next item.

    ``done`` returns how many images are done, by default one for each item. ``total`` counts all images, in a thread of
    its own.
    """
    is_wanted = sys.stderr.isatty() and not messages.quiet if messages.progress is None else messages.progress
    return _with_bar(items, done, total) if is_wanted else items


def _with_bar(items: Iterator[T], done: Callable[[], int] | None, total: Callable[[], int] | None) -> Iterator[T]:
    with progress_bar() as bar:

        def count() -> None:
            with suppress(Exception):  # the run itself reports what is wrong with its inputs
                bar.total = total() if total is not None else None

        counter = threading.Thread(target=count, name=COUNTER, daemon=True)
        counter.start()
        for item in items:
            yield item
            bar.update(done() - bar.n if done is not None else 1)
        counter.join(_TOTAL_GRACE)
        if done is not None:  # rows that were kept are counted too
            bar.update(done() - bar.n)
