"""`dinoclassify bench`."""

import os
import tempfile
from itertools import islice

from dinoclassify.cli import options
from dinoclassify.cli.option_groups import Inputs, Messages
from dinoclassify.cli.runs.inputs import check_inputs
from dinoclassify.cli.terminal import print_json, print_lines, print_table, set_up_log
from dinoclassify.discovery.discover import discover
from dinoclassify.errors import NoInputsError
from dinoclassify.models.names import DEFAULT


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
    rounds: options.Rounds = 3,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure the speed on this machine, and say what limits it.

    Runs dinoclassify in each runtime and precision, the transformers pipeline, and the model and the decoding alone,
    in turn on the same images. Takes minutes.

    Examples:
      dinoclassify bench photos/ --limit 164
      dinoclassify bench --random-weights --json
    """
    set_up_log(Messages(quiet=quiet, verbose=not quiet, debug=debug))
    check_inputs(Inputs(paths=paths))
    from dinoclassify.diagnostics.bench import measure
    from dinoclassify.diagnostics.synthetic import make_images, save_random

    with tempfile.TemporaryDirectory() as scratch:
        files = [source.path for source in islice(discover(paths or []), limit)]
        if paths and not files:
            cure = "name others, or none to measure on images that bench makes"
            raise NoInputsError(f"no images in {' '.join(paths)}: {cure}")
        if random_weights:
            folder = os.path.join(scratch, "random")
            save_random(model, folder)
            model = folder
        files = files or make_images(scratch, limit, megapixels)
        report = measure(model, files, offline=offline, device=device, workers=workers, rounds=rounds)
    if as_json:
        print_json(report.as_json())
        return
    figures = [(figure.name, figure.median, figure.least, figure.most) for figure in report.figures]
    names = ("name", "images/s (median)", "images/s (least)", "images/s (most)")
    print_table([dict(zip(names, figure, strict=True)) for figure in figures], as_json=False)
    print_lines(report.lines())
