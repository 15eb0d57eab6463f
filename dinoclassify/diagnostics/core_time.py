"""The core time that an image takes, in the model and outside of it."""

import statistics
from dataclasses import dataclass

from dinoclassify.diagnostics.rounds import Round

SECONDS = 4.0  # that the longer of two runs takes longer


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Milliseconds of processor time an image, of all processes and threads, medians over the rounds.

    Threads that spin while they wait count as if they worked, in the whole run as in the model alone. ``outside_model``
    is the difference of these two. ``without_model`` is a whole run with outputs that were computed before: it is
    steadier, and lacks what the model costs the rest, such as the caches of the processor.
    """

    whole_run: float
    model: float
    outside_model: float
    without_model: float
    decode_only: float

    def __str__(self) -> str:
        return (
            f"core time: {self.outside_model:.1f} ms an image outside the model ({self.whole_run:.1f} ms in the whole "
            f"run, {self.model:.1f} ms in the model alone); a run without the model takes {self.without_model:.1f} ms, "
            f"decoding alone {self.decode_only:.1f} ms"
        )


def measure_core_time(
    *, whole_run: Round, model: Round, without_model: Round, decode_only: Round, rounds: int
) -> CoreTime:
    """Measure the four in turn, in each round."""
    samples = [[core_ms(run) for run in (whole_run, model, without_model, decode_only)] for _ in range(rounds)]
    whole, forward, without, decode = (statistics.median(values) for values in zip(*samples, strict=True))
    outside = statistics.median(each[0] - each[1] for each in samples)
    return CoreTime(*(round(value, 2) for value in (whole, forward, outside, without, decode)))


def core_ms(run: Round) -> float:
    """The core milliseconds of one more image: the slope between a short and a long run.

    So the start of workers, which a long run pays once, does not count.
    """
    short = run(0.0)
    long = run(short.seconds + SECONDS)
    images = long.images - short.images
    if images <= 0:  # the long run was so fast that it took no more images
        return 1000 * long.core_seconds / long.images
    return 1000 * (long.core_seconds - short.core_seconds) / images
