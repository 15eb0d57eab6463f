"""The options, each defined once, as types for the parameters of commands."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, get_args

import typer

from dinoclassify.cli.completion import complete_groups, complete_model, complete_topic
from dinoclassify.cli.panels import in_input, in_labels, in_model, in_output, in_run
from dinoclassify.cli.values import MOST, number, number_or_auto, row_limit, shard, share, whole_number
from dinoclassify.discovery import filters
from dinoclassify.results.sidecars import formats
from dinoclassify.types.compute import RequestedPrecision, RuntimeName
from dinoclassify.types.limit import Limit as RowLimit
from dinoclassify.writers.formats import FEATURE_FORMATS, FORMATS
from dinoclassify.writers.formats import Format as FileFormat

DASH = "-"  # stdout as the output


def _format_option(formats: Sequence[FileFormat]) -> Any:
    names = [each.name for each in formats]
    help_text = f"{', '.join(names)}. By default what the suffix of FILE says, and {names[0]} for stdout."
    return in_output("--format", "-f", metavar="FORMAT", help=help_text, autocompletion=lambda: names)


def _choices(values: Any) -> str:
    """``Literal["a", "b"]`` -> ``a|b``."""
    return "|".join(get_args(values))


_ROW_LIMIT: dict[str, Any] = {"parser": row_limit, "metavar": "N|P%"}

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATHS", help="Images, folders, archives, URLs or quoted globs; - reads a list from stdin."),
]
FilesFrom = Annotated[
    str | None,
    in_input(metavar="FILE", help="Read paths from a list, one on each line, or from a .csv or .parquet table."),
]
Column = Annotated[
    str | None,
    in_input(
        metavar="NAME",
        help="Column of that table with the paths; by default path. Without --files-from: column of PATHS with images.",
    ),
]
Null = Annotated[bool, in_input("--null", "-0", help="Lists are NUL-separated, as find -print0 writes them.")]
ListInputs = Annotated[
    bool,
    in_input(
        "--list",
        envvar="DINOCLASSIFY_LIST",
        help="Print the paths that a run would take, NUL-separated with -0. Label nothing.",
    ),
]
Include = Annotated[
    list[str] | None, in_input(metavar="PATTERN", help="Take only paths that match this gitignore pattern. Repeatable.")
]
Exclude = Annotated[
    list[str] | None, in_input(metavar="PATTERN", help="Leave out paths that match this gitignore pattern. Repeatable.")
]
Hidden = Annotated[bool, in_input("--hidden", help="Also take files and folders whose name starts with a dot.")]
Follow = Annotated[bool, in_input("--follow", help="Follow symbolic links to folders.")]
MaxPixels = Annotated[int, in_input(parser=whole_number(1), metavar="N", help="Refuse images with more pixels.")]
Timeout = Annotated[
    float,
    in_input(parser=number(0.1), metavar="SECONDS", help="Give up an image that takes longer to read or to decode."),
]
PrivateUrls = Annotated[
    bool, in_input("--allow-private-urls", help="Also read web addresses in private networks and on this machine.")
]
Shard = Annotated[
    filters.Shard | None,
    in_input(parser=shard, metavar="I/N", help="Take the I-th of N parts. A hash of the path chooses the part."),
]
Limit = Annotated[int | None, in_input(parser=whole_number(1), metavar="N", help="Take only the first N inputs.")]

_MODEL: dict[str, Any] = {"metavar": "NAME|./DIR", "autocompletion": complete_model}
Model = Annotated[
    str, in_model("--model", "-m", **_MODEL, help="A name that `dinoclassify models` lists, a Hub id, or a folder.")
]
Revision = Annotated[
    str | None,
    in_model(metavar="COMMIT|TAG|BRANCH", help="Which revision of a Hub model; by default main, as first downloaded."),
]
Offline = Annotated[bool, in_model("--offline", help="Do not use the network to find the model.")]
Device = Annotated[str, in_model(metavar="auto|cpu|cuda|cuda:N|mps", help="Where the model runs; cuda: on all GPUs.")]
PrecisionName = Annotated[
    RequestedPrecision,
    in_model(
        metavar=_choices(RequestedPrecision),
        help="Number format the model computes in. int8: for labels only, on OpenVINO.",
    ),
]
Runtime = Annotated[RuntimeName, in_model(metavar=_choices(RuntimeName), help="Library that runs the model.")]
Compile = Annotated[
    bool, in_model("--compile", help="Compile the model with torch first. Takes minutes; pays in long runs on a GPU.")
]
BatchSize = Annotated[
    int | None, in_model(parser=number_or_auto, metavar="auto|N", help="Images in one forward pass; by default auto.")
]
Workers = Annotated[
    int | None,
    in_model(
        "--workers", "-j", parser=number_or_auto, metavar="auto|N", help="Processes that decode; by default auto."
    ),
]
Exact = Annotated[
    bool, in_model("--exact", help="Make the pixels that transformers makes on Pillow. Slower for large JPEGs.")
]

_top_k = partial(in_labels, "--top-k", "-k", parser=whole_number(1, MOST), metavar="N")
_score = partial(in_labels, parser=share, show_default=False)
TopK = Annotated[
    int | None,
    _top_k(help="Labels in each row, most probable first; by default 1. Multi-label models: likely ones, up to 10."),
]
MostLabels = Annotated[
    int | None, _top_k(help="Write at most this many labels of an image; by default 1. Multi-label models: all.")
]
Threshold = Annotated[
    float | None,
    _score(
        metavar="P|P%",
        help="Mark a row as uncertain if its best score is lower: 0.4 or 40%. Multi-label models: also leave out "
        "further labels with a lower score; by default 0.5.",
    ),
]
MinScore = Annotated[float, _score(metavar="P|P%", help="Treat rows with a lower score as uncertain: 0.4 or 40%.")]
LeastScore = Annotated[
    float | None,
    _score(metavar="P|P%", help="Leave out labels with a lower score: 0.4 or 40%. Multi-label models: by default 0.5."),
]
Labels = Annotated[
    str | None, in_labels(metavar="FILE", help="Rename the classes: one name on each line, or a .csv or .json file.")
]
_GROUPS: dict[str, Any] = {"metavar": "FILE|everyday", "autocompletion": complete_groups}
Groups = Annotated[
    str | None,
    in_labels(**_GROUPS, help="Add up classes in groups: `everyday` (dog, food, vehicle ...), or your own .csv file."),
]
ShownGroups = Annotated[
    str | None,
    in_labels("--groups", **_GROUPS, help="Also show the group of each label: `everyday`, or your own .csv file."),
]
OnlyLabel = Annotated[
    list[str] | None,
    in_labels(
        "--only", metavar="LABEL", help="Write only this label, in any case. Leave other rows alone. Repeatable."
    ),
]
Only = Annotated[
    list[str] | None,
    in_labels(metavar="LABEL|GROUP", help="Take only rows with this label or group, in any case. Repeatable."),
]

OutputFile = Annotated[
    str, in_output("--output", "-o", metavar="FILE|-", help="Write to this file or object; - is stdout.")
]
RowsTo = Annotated[
    str,
    in_output(
        "--output",
        "-o",
        metavar="FILE|DIR/|-",
        help="Write to this file or object, or in parts to this folder; - is stdout.",
    ),
]
Format = Annotated[str | None, _format_option(FORMATS)]
FeatureFormat = Annotated[str | None, _format_option(FEATURE_FORMATS)]
Normalize = Annotated[bool, in_output("--normalize", help="Scale the features of each image to length 1.")]
Dtype = Annotated[Literal["fp32", "fp16"], in_output(metavar="fp32|fp16", help="Number format of the features.")]

Fresh = Annotated[bool, in_output("--fresh", help="Start over: discard the rows of an interrupted run.")]
Resume = Annotated[
    bool, in_output("--resume", help="Continue FILE: take only images that are new, changed or not done yet.")
]
RetryFailed = Annotated[bool, in_output("--retry-failed", help="With --resume: also try the failed rows again.")]
Prune = Annotated[bool, in_output("--prune", help="With --resume: drop the rows of images that are certainly gone.")]
MaxPrune = Annotated[
    RowLimit | None,
    in_output(**_ROW_LIMIT, help="With --prune: stop if more rows would go; by default half of them, from 20 rows on."),
]
ErrorsTo = Annotated[
    str | None, in_output(metavar="FILE", help="Write the paths of failed rows to a list that --files-from reads.")
]
ExcelSafe = Annotated[bool, in_output("--excel-safe", help="Write CSV in which a spreadsheet finds no formulas.")]
AsJson = Annotated[bool, in_output("--json", help="Print JSON.")]
ClearCache = Annotated[
    bool, in_run("--clear-cache", help="Empty the cache: prepared models, features and digests. List no models.")
]

Results = Annotated[
    str | None, typer.Argument(metavar="RESULTS", help="A file that `predict` wrote; - reads its rows from stdin.")
]
Into = Annotated[
    str | None,
    in_output(
        metavar="DIR", help="Make the folders of the labels in DIR, which is made if missing. Required, but for --undo."
    ),
]
Mode = Annotated[
    Literal["copy", "move", "symlink", "hardlink"],
    in_output(metavar="copy|move|symlink|hardlink", help="What to do with each image."),
]
Layout = Annotated[
    str | None,
    in_output(
        metavar="TEMPLATE",
        help="Where in DIR an image goes; by default {label}/{name}, with --groups {group}/{name}. Other fields: "
        "{score} {status} {rank} {stem} {suffix} {parent}.",
    ),
]
WithCompanions = Annotated[
    bool, in_output("--with-companions", help="Take RAW files, sidecars and others of the same name along.")
]
UncertainTo = Annotated[
    str | None, in_output(metavar="NAME", help="Put uncertain images into DIR/NAME. Without it they stay.")
]
FailedTo = Annotated[
    str | None, in_output(metavar="NAME", help="Put failed images into DIR/NAME. Without it they stay.")
]
DryRun = Annotated[bool, in_run("--dry-run", "-n", help="Print what a run would do. Do nothing.")]
ResumeSort = Annotated[bool, in_run("--resume", help="Continue a run that was stopped or killed.")]
Undo = Annotated[
    str | None, in_run(metavar="DIR|JOURNAL", help="Take back what the journal of this folder lists. Takes no RESULTS.")
]
UndoTo = Annotated[
    str | None,
    in_run(
        "--to", metavar="ROOT", help="With --undo: put images back only below ROOT. For a journal that is not yours."
    ),
]

SidecarFormat = Annotated[
    formats.SidecarFormat,
    in_output("--format", "-f", metavar=_choices(formats.SidecarFormat), help="Format of the sidecars."),
]
Naming = Annotated[
    Literal["full", "stem"], in_output(metavar="full|stem", help="full: x.jpg gets x.jpg.xmp. stem: it gets x.xmp.")
]
SidecarsInto = Annotated[
    str | None, in_output(metavar="DIR", help="Write the sidecars below DIR, not beside the images.")
]
Prefix = Annotated[
    str, in_output(metavar="WORD", help="Root of the written keywords in the keyword tree: dino gives dino|tench.")
]
Remove = Annotated[bool, in_run("--remove", help="Take the keywords of dinoclassify out of the sidecars.")]

Parts = Annotated[
    list[str] | None,
    typer.Argument(metavar="PARTS", help="Files that `predict` wrote, folders of them, or quoted globs."),
]
AllowGaps = Annotated[
    bool, in_input("--allow-gaps", help="Merge even if parts are missing, or have seen different inputs.")
]
AllowDuplicates = Annotated[
    bool, in_input("--allow-duplicates", help="Merge even if parts share a path. The row of the last part counts.")
]

Page = Annotated[
    str, in_output("--output", "-o", metavar="FILE|-", help="Write the page to this file; - is stdout. Required.")
]
Thumbnails = Annotated[
    int,
    in_output(
        parser=whole_number(0, MOST), metavar="N", help="Thumbnails of each label, most certain images first. 0: none."
    ),
]
Link = Annotated[bool, in_output("--link", help="Show the other labelled images too, from their own files.")]

BenchPaths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATHS", help="Images, folders or quoted globs. Without PATHS: images made for the test."),
]
BenchDevice = Annotated[
    str, in_model("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to measure; one GPU.")
]
BenchLimit = Annotated[
    int, in_input(parser=whole_number(1), metavar="N", help="Take the first N images of PATHS, or make N.")
]
Megapixels = Annotated[
    float, in_input(parser=number(0.01, 100), metavar="MP", help="Size of the images made for the test.")
]
Rounds = Annotated[int, in_run(parser=whole_number(1, 100), metavar="N", help="How often to measure each.")]
Against = Annotated[
    str | None, in_output(metavar="OLD.json", help="Compare with what `bench --json` printed before: new to old.")
]
RandomWeights = Annotated[
    bool, in_model("--random-weights", help="Use the model's architecture with random weights: as fast, no download.")
]

CheckedModel = Annotated[
    str | None, in_model("--model", "-m", **_MODEL, help="Check whether this model is on this machine.")
]
CheckedOutput = Annotated[
    str | None,
    in_output(
        "--output", "-o", metavar="FILE|DIR", help="Check whether this can be written; by default the working folder."
    ),
]

Topic = Annotated[
    str | None,
    typer.Argument(metavar="TOPIC", help="A page of the guide. Without it: the list.", autocompletion=complete_topic),
]
Search = Annotated[str | None, in_run(metavar="WORD", help="Print each sentence that has WORD, in any case.")]

Watch = Annotated[bool, in_run("--watch", help="Keep running, and label images that arrive in the folders.")]
StatusFile = Annotated[
    str | None,
    in_run(
        "--status", metavar="FILE", help="With --watch: keep the state of the watch in a JSON file, for monitoring."
    ),
]

Engine = Annotated[
    Literal["local", "ray"],
    in_run(metavar="local|ray", help="local: this machine. ray: all machines of a Ray cluster."),
]
RayAddress = Annotated[
    str | None,
    in_run(
        metavar="auto|HOST:PORT", help="With ray: the cluster. By default RAY_ADDRESS, or a new one on this machine."
    ),
]
Gpus = Annotated[
    float | None,
    in_run(
        "--gpus-per-replica",
        parser=number(0),
        metavar="N",
        help="With ray: GPUs for each copy of the model. 0.5: two share one.",
    ),
]

Wait = Annotated[bool, in_run("--wait", help="Wait while another run writes the same output, instead of exit code 11.")]
MaxFailures = Annotated[
    RowLimit | None,
    in_run(**_ROW_LIMIT, help="Stop with exit code 7 if more rows than this fail. FILE stays as it was."),
]
Strict = Annotated[bool, in_run("--strict", help="Stop at the first row that fails: --max-failures 0.")]
Progress = Annotated[
    bool | None, in_run("--progress/--no-progress", help="Show a progress bar; by default if stderr is a terminal.")
]
Quiet = Annotated[bool, in_run("--quiet", "-q", help="Print no summary and no warnings.")]
Verbose = Annotated[
    bool,
    in_run("--verbose", "-v", help="Say more: what is used and done. Runs of a model also say where the time went."),
]
Debug = Annotated[bool, in_run("--debug", help="Show tracebacks.")]
