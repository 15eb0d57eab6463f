"""`dinoclassify bench`."""

import os
import tempfile
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from dinoclassify.cli import options
from dinoclassify.cli.option_groups import Inputs, Messages
from dinoclassify.cli.runs.inputs import check_inputs
from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.cli.terminal import hush, print_json, print_lines, print_table, say, set_up_log
from dinoclassify.discovery.discover import discover
from dinoclassify.errors import NoInputsError
from dinoclassify.messages import count_of
from dinoclassify.models.names import DEFAULT

if TYPE_CHECKING:
    from dinoclassify.diagnostics.bench import Measurement
    from dinoclassify.diagnostics.comparison import Comparison, Earlier
    from dinoclassify.diagnostics.report import Report


def bench(
    paths: options.BenchPaths = None,
    limit: options.BenchLimit = 64,
    megapixels: options.Megapixels = 0.2,
    model: options.Model = DEFAULT,
    random_weights: options.RandomWeights = False,
    offline: options.Offline = False,
    device: options.BenchDevice = "auto",
    workers: options.Workers = None,
    as_json: options.AsJson = False,
    against: options.Against = None,
    rounds: options.Rounds = 3,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure the speed on this machine, and say what limits it.

    Runs dinoclassify in each runtime and precision, the transformers pipeline, and the model and the decoding alone,
    in turn on the same images. Then starts both as programs that label one image. Takes minutes. If it is stopped, it
    prints what it has measured.

    Examples:
      dinoclassify bench photos/ --limit 164
      dinoclassify bench --random-weights --json > old.json
      dinoclassify bench --random-weights --against old.json
    """
    set_up_log(Messages(quiet=quiet, verbose=not quiet, debug=debug))
    check_inputs(Inputs(paths=paths))
    from dinoclassify.diagnostics.comparison import read_report

    earlier = read_report(against) if against is not None else None
    from dinoclassify.diagnostics.bench import Settings, prepare
    from dinoclassify.diagnostics.synthetic import make_images, save_random

    with tempfile.TemporaryDirectory() as scratch:
        files = [source.path for source in islice(discover(paths or []), limit)]
        if paths and not files:
            cure = "name others, or none to measure on images that bench makes"
            raise NoInputsError(f"no images in {' '.join(paths)}: {cure}")
        shown_model = model
        if random_weights:
            folder = os.path.join(scratch, "random")
            save_random(model, folder)
            model, shown_model = folder, f"{model} with random weights"
        files = files or make_images(scratch, limit, megapixels)
        settings = Settings(model, shown_model, scratch, offline, device, workers, rounds)
        _measure(prepare(files, settings), earlier, as_json=as_json)


def _measure(measurement: "Measurement", earlier: "Earlier | None", *, as_json: bool) -> None:
    """Measure, and print the report. If a signal ends the measurement, print what there is."""
    from dinoclassify.diagnostics.bench import measure, report_of

    try:
        measure(measurement)
    except Stopped as stop:
        rounds = measurement.settings.rounds
        say(f"{stop} after {measurement.rounds} of {count_of(rounds, 'round')}")
        stop.is_said = True
        if measurement.has_figures:
            _print(report_of(measurement), earlier, as_json=as_json)
        hush()  # queues that are torn down print tracebacks
        raise
    _print(report_of(measurement), earlier, as_json=as_json)


def _print(report: "Report", earlier: "Earlier | None", *, as_json: bool) -> None:
    """Print a report, and how it compares with an earlier one."""
    from dinoclassify.diagnostics.comparison import compare

    content = report.as_json()
    comparison = compare(earlier, content) if earlier is not None else None
    if as_json:
        print_json(content | ({"comparison": comparison.as_json()} if comparison is not None else {}))
        return
    figures = [(figure.name, figure.median, figure.least, figure.most) for figure in report.figures]
    _print_columns(("name", "images/s (median)", "images/s (least)", "images/s (most)"), figures)
    if report.starts:
        print_lines([""])
        names = ("start with one image", "cache", "s", "s (least)", "s (most)", "core s", "MB (peak)")
        _print_columns(
            names,
            [
                (each.name, each.cache, each.seconds, each.least, each.most, each.core_seconds, each.megabytes)
                for each in report.starts
            ],
        )
        print_lines([""])
    print_lines(report.lines())
    if comparison is not None:
        _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    print_lines(["", f"compared with {comparison.against}"])
    if comparison.figures:
        rows = [(each.name, each.unit, each.old, each.new, each.ratio) for each in comparison.figures]
        _print_columns(("name", "unit", "old", "new", "new/old"), rows)
    if lines := comparison.lines():
        print_lines(lines)


def _print_columns(names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    print_table([dict(zip(names, row, strict=True)) for row in rows], as_json=False)
