"""The options of `train` and `evaluate`, as types for the parameters of commands; see `cli.options` for others."""

from typing import Annotated, Literal

import typer

from dinoclassify.cli.panels import in_input, in_labels, in_output, in_training
from dinoclassify.cli.values import share, whole_number

LabelledFolder = Annotated[
    str | None,
    typer.Argument(
        metavar="LABELLED_DIR",
        help="A folder with one folder for each class. With --labels-from: where relative paths start.",
    ),
]
LabelsFrom = Annotated[
    str | None, in_input(metavar="TABLE", help="Read images and their labels from a .csv or .parquet table.")
]
TruthColumn = Annotated[
    str | None, in_input("--column", metavar="NAME", help="Column of that table with the paths; by default path.")
]
LabelColumn = Annotated[
    str | None, in_input(metavar="NAME", help="Column of that table with the labels; by default label.")
]
GroupColumn = Annotated[
    str | None,
    in_input(metavar="NAME", help="Column of that table with a group: images of one group are never in two folds."),
]
MultiLabel = Annotated[
    bool, in_input("--multi-label", help="An image may have several labels, separated by ;, or none.")
]
ClassWeight = Annotated[
    Literal["balanced", "none"],
    in_training(
        metavar="balanced|none",
        help="balanced: each class counts the same, and scores assume that all are equally frequent. "
        "none: each image does.",
    ),
]
MinImages = Annotated[
    int, in_training(parser=whole_number(2), metavar="N", help="Leave out classes of fewer images than this.")
]
Test = Annotated[
    str | None, in_training("--test", metavar="DIR|TABLE", help="Also measure the trained head on these images.")
]
Holdout = Annotated[
    float | None,
    in_training(parser=share, metavar="P|P%", help="Set this share of the images apart as a test: 0.2 or 20%."),
]
Seed = Annotated[
    int,
    in_training(parser=whole_number(0, 2**32 - 1), metavar="N", help="Random seed for the folds and for --holdout."),
]
ModelFolder = Annotated[str, in_output("--output", "-o", metavar="DIR", help="Write the model to this folder.")]
Force = Annotated[bool, in_output("--force", help="Replace a model that is there.")]
Predictions = Annotated[
    str | None, in_input(metavar="FILE", help="Judge the rows of this file, which `predict` wrote. No model runs.")
]
AsCsv = Annotated[bool, in_output("--csv", help="Print the figures of each class as CSV.")]
Plots = Annotated[
    str | None, in_output(metavar="DIR", help="Draw the confusion matrix, the calibration and the thresholds into DIR.")
]
PlotFormat = Annotated[Literal["png", "svg"], in_output(metavar="png|svg", help="File format of the plots.")]
TargetPrecision = Annotated[
    float | None,
    in_labels(
        parser=share,
        show_default=False,
        metavar="P|P%",
        help="Suggest the --threshold at which this share of the labels is right: 0.99 or 99%.",
    ),
]
YesScore = Annotated[
    float | None,
    in_labels(
        "--threshold",
        parser=share,
        show_default=False,
        metavar="P|P%",
        help="With --multi-label: a label is given from this score on; by default 0.5.",
    ),
]
