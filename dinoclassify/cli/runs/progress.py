"""What is said of a run while it goes on: what it uses, how far it is, where its time went, and why it ended early."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from dinoclassify.cli.option_groups import Messages
from dinoclassify.cli.runs.signals import finishing_batches
from dinoclassify.cli.runs.tally import Tally
from dinoclassify.cli.terminal import COUNTER, hush, progress_bar, say
from dinoclassify.errors import OutputClosedError
from dinoclassify.messages import count_of
from dinoclassify.timing import StageTimer
from dinoclassify.types.source import Source

if TYPE_CHECKING:
    from dinoclassify.loaded_model import LoadedModel
    from dinoclassify.models.info import ModelInfo

log = logging.getLogger("dinoclassify")

T = TypeVar("T")

_COUNTING = 1.0  # seconds that the end of a bar waits for its total


def log_model(model: "ModelInfo") -> None:
    """Say what has been opened."""
    name = f"{model.name} at {model.revision}" if model.revision else model.name
    log.info("%s on %s in %s by %s", name, model.device, model.precision, model.runtime)


def log_stages(stages: StageTimer, model: "LoadedModel", *, exact: bool) -> None:
    """Say where the time went, and what would help."""
    log.info("%s; to be faster: %s", stages.summary(), model.advice(stages, exact=exact))


@contextmanager
def report_interruption(tally: Tally, kept: Callable[[], str] = str) -> Iterator[Callable[[], bool]]:
    """`finishing_batches`; when the run ends early, say how far it was, and where its rows, if any, are ``kept``."""

    def tell(why: object) -> None:
        say(f"{why} after {count_of(tally.made, 'image')}{kept() if tally.has_rows else ''}")
        hush()

    try:
        with finishing_batches(tell) as stop:
            yield stop
    except OutputClosedError:
        hush()
        raise


def with_progress(
    rows: Iterator[T], tally: Tally, messages: Messages, look: Callable[[], Iterator[Source]] | None
) -> Iterator[T]:
    """Show a bar on stderr, if it is wanted; its end comes from a second look at the inputs, beside the first."""
    return _with_bar(rows, tally, look) if wants_bar(messages) else rows


def wants_bar(messages: Messages) -> bool:
    """Whether a bar is to be shown: by default if stderr is a terminal."""
    return sys.stderr.isatty() and not messages.quiet if messages.progress is None else messages.progress


def _with_bar(rows: Iterator[T], tally: Tally, look: Callable[[], Iterator[Source]] | None) -> Iterator[T]:
    with progress_bar() as bar:

        def count() -> None:
            with suppress(Exception):  # the first look reports what is wrong
                bar.total = sum(1 for _ in look()) if look is not None else None

        counter = threading.Thread(target=count, name=COUNTER, daemon=True)
        counter.start()
        for row in rows:
            yield row
            bar.update(tally.total - bar.n)  # rows that were kept are counted too
        counter.join(_COUNTING)
        bar.update(tally.total - bar.n)
