"""The counts of a run as its exit code and its last line."""

from dinoclassify.discovery.filters import describe_passed_over
from dinoclassify.messages import count_of
from dinoclassify.writers.tally import Tally

SOME_FAILED = 3  # the exit code of a run that wrote its output, with failed rows

_LONG = 10.0  # seconds to open a model: mentioned, because the next run is faster
_CHANGES = ("kept", "new", "changed", "retried", "pruned", "not named")


def exit_code(tally: Tally) -> int:
    """Return 0 if no row failed, or no more than the user allows; otherwise 3."""
    return SOME_FAILED if tally.statuses["failed"] and tally.limit is None else 0


def describe_counts(tally: Tally) -> str:
    """Return the number of rows of each status, and of each error code."""
    statuses = ", ".join(
        f"{tally.statuses[status]:,} {status}" for status in ("ok", "uncertain", "failed") if tally.statuses[status]
    )
    errors = ", ".join(f"{count:,} {code}" for code, count in tally.errors.most_common() if count)
    return statuses + (f" ({errors})" if errors else "")


def arrow_to(output: str | None) -> str:
    """Return the end of a summary that names the output; empty without one."""
    return f" -> {output}" if output is not None else ""


def summarize(tally: Tally, output: str | None = None) -> str:
    """Return the counts in a line: rows, what became of earlier rows, time, speed, output and files passed over."""
    changes = [f"{tally.changes[change]:,} {change}" for change in _CHANGES if tally.changes[change]]
    is_update = set(changes) - {f"{tally.changes['new']:,} new"}
    update = f"; {', '.join(changes)}" if is_update else ""
    speed = f", {tally.made / tally.seconds:.1f} images/s" if tally.made else ""
    opening = f", after {tally.opening:.0f} s to open the model" if tally.opening >= _LONG else ""
    rows = f"{count_of(tally.total, 'image')}: {describe_counts(tally)}"
    passed_over = f"; {text}" if (text := describe_passed_over(tally.passed_over)) else ""
    return f"{rows}{update} in {tally.seconds:.1f} s{speed}{opening}{arrow_to(output)}{passed_over}"
