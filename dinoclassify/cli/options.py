"""The options, each defined once, as types for the parameters of commands."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import typer

from dinoclassify.discovery import filters
from dinoclassify.results.sidecars import formats
from dinoclassify.types.compute import RequestedPrecision, RuntimeName
from dinoclassify.types.limit import Limit as RowLimit
from dinoclassify.writers.formats import FEATURE_FORMATS, FORMATS
from dinoclassify.writers.formats import Format as FileFormat

DASH = "-"  # stdout as the output
MOST = 100_000  # images in a batch, processes, labels in a row, thumbnails

# The epilog says once that an environment variable can set each option.
_input = partial(typer.Option, show_envvar=False, rich_help_panel="Input")
_model = partial(typer.Option, show_envvar=False, rich_help_panel="Model")
_prediction = partial(typer.Option, show_envvar=False, rich_help_panel="Prediction")
_output = partial(typer.Option, show_envvar=False, rich_help_panel="Output")
_run = partial(typer.Option, show_envvar=False, rich_help_panel="Run")


def _format_option(formats: Sequence[FileFormat]) -> Any:
    names = [each.name for each in formats]
    help_text = f"By default from the suffix of FILE; {names[0]} for stdout."
    return _output("--format", "-f", metavar="|".join(names), help=help_text)


def _number_or_auto(text: str) -> int | None:
    """``auto`` -> None, ``8`` -> 8."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise typer.BadParameter(f"{text} is neither auto nor a number from 1 to {MOST:,}.")
    return int(text)


def _shard(text: str) -> filters.Shard:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise typer.BadParameter(f"{text} is not I/N with I from 1 to N.")
    return filters.Shard(int(index), int(count))


def _share(text: str | float) -> float:
    """``0.4`` and ``40%`` -> 0.4."""
    try:
        number = str(text).removesuffix("%")
        share = float(number) / (100 if number != str(text) else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text} is not a share from 0 to 1, such as 0.4 or 40%.")
    return share


def _row_limit(text: str) -> RowLimit:
    number = text.removesuffix("%")
    try:
        if text != number and 0 <= float(number) <= 100:
            return RowLimit(text, share=float(number) / 100)
        if text == number and int(number) >= 0:
            return RowLimit(text, count=int(number))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text} is neither a number nor a percentage from 0% to 100%.")


_ROW_LIMIT: dict[str, Any] = {"parser": _row_limit, "metavar": "N|P%"}

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATHS", help="Images, folders, archives, URLs, quoted globs, or - for a list of these on stdin."
    ),
]
FilesFrom = Annotated[
    str | None, _input(metavar="FILE", help="Read paths from a list, or from a .csv or .parquet table.")
]
Column = Annotated[
    str | None,
    _input(metavar="NAME", help="The column with the paths in that table; or with the images in tables in PATHS."),
]
LabelledFolder = Annotated[
    str | None,
    typer.Argument(
        metavar="LABELLED_DIR",
        help="A folder with one folder for each class; or the base of relative paths in --labels-from.",
    ),
]
LabelsFrom = Annotated[
    str | None, _input(metavar="TABLE", help="A .csv or .parquet table with an image and its label in each row.")
]
LabelColumn = Annotated[
    str | None, _input(metavar="NAME", help="The column with the labels in that table; by default label.")
]
MultiLabel = Annotated[bool, _input("--multi-label", help="An image may have several labels, separated by ;, or none.")]
Null = Annotated[bool, _input("--null", "-0", help="Lists are NUL-separated, as find -print0 writes them.")]
ListInputs = Annotated[
    bool,
    _input("--list", envvar="DINOCLASSIFY_LIST", help="Print the inputs, NUL-separated with -0, and label nothing."),
]
Include = Annotated[
    list[str] | None, _input(metavar="PATTERN", help="Take only what matches this gitignore pattern; repeatable.")
]
Exclude = Annotated[
    list[str] | None, _input(metavar="PATTERN", help="Leave out what matches this gitignore pattern; repeatable.")
]
Hidden = Annotated[bool, _input("--hidden", help="Also take entries whose name starts with a dot.")]
Follow = Annotated[bool, _input("--follow", help="Walk into symbolic links to folders.")]
MaxPixels = Annotated[int, _input(min=1, metavar="N", help="Refuse images with more pixels.")]
Timeout = Annotated[float, _input(min=0.1, metavar="SECONDS", help="Fail an image that takes longer.")]
PrivateUrls = Annotated[
    bool, _input("--allow-private-urls", help="Also read web addresses in private networks and on this machine.")
]
Shard = Annotated[
    filters.Shard | None,
    _input(parser=_shard, metavar="I/N", help="Take the I-th of N parts, chosen by a hash of the path."),
]
Limit = Annotated[int | None, _input(min=1, metavar="N", help="Take the first N inputs.")]

Model = Annotated[
    str, _model("--model", "-m", metavar="NAME|./DIR", help="A name that `models` lists, a hub id or a folder.")
]
Revision = Annotated[str | None, _model(metavar="REV", help="A commit, tag or branch of a hub model.")]
Offline = Annotated[bool, _model("--offline", help="Never ask the network.")]
Device = Annotated[str, _model(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionName = Annotated[RequestedPrecision, _model(help="The model's arithmetic.")]
Runtime = Annotated[RuntimeName, _model(help="What runs the model.")]
Compile = Annotated[bool, _model("--compile", help="Compile the model with torch first: minutes, for long runs.")]
BatchSize = Annotated[int | None, _model(parser=_number_or_auto, metavar="auto|N", help="Images in one forward pass.")]
Workers = Annotated[
    int | None, _model("--workers", "-j", parser=_number_or_auto, metavar="auto|N", help="Processes that decode.")
]
Exact = Annotated[bool, _model("--exact", help='Decode and resize exactly as transformers with backend="pil" does.')]

_top_k = partial(_prediction, "--top-k", "-k", min=1, max=MOST, metavar="N")
_score = partial(_prediction, parser=_share, metavar="P")
TopK = Annotated[int, _top_k(help="Labels in each row.")]
MostLabels = Annotated[int, _top_k(help="At most this many labels of an image.")]
Threshold = Annotated[float, _score(help="A row whose best score is lower is marked uncertain.")]
MinScore = Annotated[float, _score(help="Count rows with a lower score as uncertain.")]
LeastScore = Annotated[float, _score(help="Leave out labels with a lower score.")]
TargetPrecision = Annotated[
    float | None, _score(help="Suggest the --threshold from which on this share of the labels is right.")
]
Normalize = Annotated[bool, _prediction("--normalize", help="Scale the features of each image to length 1.")]
Dtype = Annotated[Literal["fp32", "fp16"], _prediction(help="Number format of the features.")]
Labels = Annotated[
    str | None, _prediction(metavar="FILE", help="Other names for the classes: one a line, or .csv, or .json.")
]

ClassWeight = Annotated[
    Literal["balanced", "none"], _prediction(help="balanced: all classes count the same; none: all images do.")
]
Seed = Annotated[
    int, _prediction(min=0, max=2**32 - 1, metavar="N", help="Random seed for the cross-validation folds.")
]
ModelFolder = Annotated[str, _output("--output", "-o", metavar="DIR", help="Write the model to this folder.")]
Force = Annotated[bool, _output("--force", help="Replace an existing model.")]
Predictions = Annotated[
    str | None, _input(metavar="FILE", help="Take the rows of this file, which predict wrote; no model is run.")
]
AsCsv = Annotated[bool, _output("--csv", help="Print the figures of each class as CSV.")]
Plots = Annotated[
    str | None, _output(metavar="DIR", help="Draw the confusion matrix, reliability and thresholds into this folder.")
]
PlotFormat = Annotated[Literal["png", "svg"], _output(help="File format of the plots.")]
OutputFile = Annotated[
    str, _output("--output", "-o", metavar="FILE|-", help="Write to this file, complete or not at all; - is stdout.")
]
_ROWS_TO = "Write to this file, or in parts to this folder, complete or not at all; - is stdout."
RowsTo = Annotated[str, _output("--output", "-o", metavar="FILE|DIR/|-", help=_ROWS_TO)]
Format = Annotated[str | None, _format_option(FORMATS)]

Fresh = Annotated[bool, _output("--fresh", help="Start over: discard the rows of an interrupted run.")]
Resume = Annotated[
    bool, _output("--resume", help="Go on with FILE: only images that are new, changed or not done yet.")
]
RetryFailed = Annotated[bool, _output("--retry-failed", help="With --resume: also redo the rows that failed.")]
Prune = Annotated[bool, _output("--prune", help="With --resume: drop the rows of files that are certainly gone.")]
MaxPrune = Annotated[
    RowLimit | None, _output(**_ROW_LIMIT, help="With --prune: drop at most this many rows; by default half of them.")
]
ErrorsTo = Annotated[
    str | None, _output(metavar="FILE", help="Write the paths of failed rows, as a list for --files-from.")
]
FeatureFormat = Annotated[str | None, _format_option(FEATURE_FORMATS)]
ExcelSafe = Annotated[bool, _output("--excel-safe", help="CSV in which a spreadsheet finds no formulas.")]

Groups = Annotated[
    str | None,
    _prediction(
        metavar="FILE|everyday", help="Fold the classes into groups: a .csv of class and group, or `everyday`."
    ),
]
Results = Annotated[
    str | None, typer.Argument(metavar="RESULTS", help="A file that `predict` wrote, or - for its rows on stdin.")
]
Only = Annotated[
    list[str] | None,
    _prediction(metavar="LABEL|GROUP", help="Take only rows of this label or group, whatever the case; repeatable."),
]
Into = Annotated[str | None, _output(metavar="DIR", help="The folder for the folders of the labels.")]
Mode = Annotated[Literal["copy", "move", "symlink", "hardlink"], _output(help="What to do with the images.")]
Layout = Annotated[
    str | None,
    _output(
        metavar="TEMPLATE",
        help="Where in DIR an image goes, by default {label}/{name}, or {group}/{name} with --groups; also {score} "
        "{status} {rank} {stem} {suffix} {parent}.",
    ),
]
WithCompanions = Annotated[
    bool,
    _output(
        "--with-companions",
        help="Move or copy the RAW, the sidecars and other files of the same name along with their image.",
    ),
]
UncertainTo = Annotated[
    str | None, _output(metavar="NAME", help="Put uncertain images into this folder of DIR; else they are left alone.")
]
FailedTo = Annotated[
    str | None, _output(metavar="NAME", help="Put failed images into this folder of DIR; else they are left alone.")
]
DryRun = Annotated[bool, _run("--dry-run", "-n", help="Print what would be done, and do nothing.")]
ResumeSort = Annotated[bool, _run("--resume", help="Go on with a run that was stopped or killed.")]
Undo = Annotated[
    str | None, _run(metavar="JOURNAL", help="Take back what is written in DIR/undo-journal.jsonl; no RESULTS.")
]
UndoTo = Annotated[
    str | None,
    _run("--to", metavar="ROOT", help="With --undo: put images back only below this folder; for journals of others."),
]

SidecarFormat = Annotated[formats.SidecarFormat, _output("--format", "-f", help="File format of the sidecars.")]
Naming = Annotated[Literal["full", "stem"], _output(help="full: x.jpg has x.jpg.xmp; stem: it has x.xmp.")]
SidecarsInto = Annotated[
    str | None, _output(metavar="DIR", help="Write sidecars below this folder, rather than beside the images.")
]
Prefix = Annotated[
    str, _output(metavar="WORD", help="The root of our labels in the tree of keywords: dino has dino|tench.")
]
Remove = Annotated[bool, _run("--remove", help="Take our labels out of the sidecars of these images.")]

Parts = Annotated[
    list[str] | None,
    typer.Argument(metavar="PARTS", help="Files that `predict` wrote, folders of such, or quoted globs."),
]
AllowGaps = Annotated[
    bool, _input("--allow-gaps", help="Merge these parts even if others are missing, or have seen other inputs.")
]
AllowDuplicates = Annotated[
    bool, _input("--allow-duplicates", help="Several parts may have rows of one path: those of the last part count.")
]

Page = Annotated[str, _output("--output", "-o", metavar="FILE", help="Write the page to this file.")]
Thumbnails = Annotated[
    int, _output(min=0, max=MOST, metavar="N", help="Embed the N most certain images of each label.")
]
Link = Annotated[bool, _output("--link", help="Show all other images, too, from their own files.")]

Watch = Annotated[bool, _run("--watch", help="Keep running, and label images that arrive in the folders.")]
StatusFile = Annotated[
    str | None, _run("--status", metavar="FILE", help="With --watch: keep a JSON file with its state, for monitoring.")
]

Engine = Annotated[Literal["local", "ray"], _run(help="local: this machine; ray: all machines of a Ray cluster.")]
RayAddress = Annotated[
    str | None,
    _run(metavar="ADDRESS", help="Address of the cluster: auto or HOST:PORT; by default one is started here."),
]
Gpus = Annotated[
    float | None,
    _run(
        "--gpus-per-replica",
        min=0,
        metavar="N",
        help="With ray: GPUs for each copy of the model; 0.5 puts two copies on one GPU.",
    ),
]

Wait = Annotated[bool, _run("--wait", help="Wait for another run that writes the same, rather than exit with 11.")]
MaxFailures = Annotated[
    RowLimit | None, _run(**_ROW_LIMIT, help="Stop when more rows of FILE fail, and leave it as it was: exit code 7.")
]
Strict = Annotated[bool, _run("--strict", help="Stop at the first row that fails: --max-failures 0.")]
Progress = Annotated[
    bool | None, _run("--progress/--no-progress", help="Show a progress bar; by default if stderr is a terminal.")
]
Quiet = Annotated[bool, _run("--quiet", "-q", help="No summary, no warnings.")]
Verbose = Annotated[bool, _run("--verbose", "-v", help="Say what is used and done, and where the time went.")]
Debug = Annotated[bool, _run("--debug", help="Show tracebacks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_envvar=False)]
