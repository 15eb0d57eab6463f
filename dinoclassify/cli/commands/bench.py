"""`dinoclassify bench`."""

import os
import tempfile
from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from dinoclassify.cli import options
from dinoclassify.cli.option_groups import Messages
from dinoclassify.cli.terminal import print_json, print_lines, print_table, set_up_log
from dinoclassify.discovery.discover import discover
from dinoclassify.errors import NoInputsError
from dinoclassify.models.names import DEFAULT

Images = Annotated[
    list[str] | None, typer.Argument(metavar="PATHS", help="Images, folders or globs; by default synthetic images.")
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="Number of images.", show_envvar=False)]
Megapixels = Annotated[
    float, typer.Option(min=0.01, max=100, metavar="M", help="Size of the synthetic images.", show_envvar=False)
]
Rounds = Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How often to run each.", show_envvar=False)]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Use random weights: no download.", show_envvar=False)
]


def bench(
    paths: Images = None,
    limit: Limit = 64,
    megapixels: Megapixels = 0.2,
    rounds: Rounds = 3,
    model: options.Model = DEFAULT,
    random_weights: RandomWeights = False,
    offline: options.Offline = False,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure the speed, side by side.

    Runs dinoclassify in each runtime and precision of this machine, the transformers pipeline, and what limits them,
    in turn on the same images with the same weights, and says which stage is the bottleneck. Takes minutes.
    """
    set_up_log(Messages(quiet=quiet, verbose=not quiet, debug=debug))
    from dinoclassify.diagnostics.bench import measure
    from dinoclassify.diagnostics.synthetic import make_images, save_random

    with tempfile.TemporaryDirectory() as scratch:
        files = [source.path for source in islice(discover(paths or []), limit)]
        if paths and not files:
            raise NoInputsError(f"no images found in {' '.join(paths)}")
        if random_weights:
            folder = os.path.join(scratch, "random")
            save_random(model, folder)
            model = folder
        files = files or make_images(scratch, limit, megapixels)
        report = measure(model, files, offline=offline, device=device, workers=workers, rounds=rounds)
    if as_json:
        print_json(asdict(report))
        return
    print_table([asdict(figure) for figure in report.figures], as_json=False)
    print_lines(report.lines())
