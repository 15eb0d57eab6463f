"""The registry of row formats. A new format is one file beside this one and one line in `FORMATS`.

A table with `magic` also needs a branch in `results.reader._columns`. The file offers ``open_format(name, top_k)``,
which returns a `RowFormat`. Files in `writers.formats.features`, for features, offer a class
``FeatureTable(width, dtype)``. A module is imported when its format is opened.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.output_paths import refuse_reserved
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat


@dataclass(frozen=True, slots=True)
class Format:
    """What is known of a format without importing its module."""

    name: str  # for --format
    suffixes: tuple[str, ...]  # of file names that select it; the first is that of a part in a folder
    module: str  # that implements it, in this package
    table: bool = False  # whether it is a `Table`; otherwise `Lines`
    seeks: bool = False  # whether writing it needs a regular file, because it is not written from front to back
    database: bool = False  # whether other programs may be using its files, see `RowFormat.refuse_in_use`
    magic: bytes = b""  # the first `MAGIC` bytes of its files; empty if these do not identify it

    def load(self) -> ModuleType:
        """Import the module of the format."""
        return import_module(f"{__name__}.{self.module}")


FORMATS = (
    Format("csv", (".csv",), "csv"),
    Format("tsv", (".tsv",), "csv"),
    Format("jsonl", (".jsonl", ".ndjson"), "jsonl"),
    Format("csv.gz", (".csv.gz",), "gzip", table=True),
    Format("tsv.gz", (".tsv.gz",), "gzip", table=True),
    Format("jsonl.gz", (".jsonl.gz", ".ndjson.gz"), "gzip", table=True),
    Format("parquet", (".parquet",), "parquet", table=True, magic=b"PAR1"),
    Format("sqlite", (".sqlite", ".sqlite3", ".db"), "sqlite", table=True, seeks=True, database=True, magic=b"SQLi"),
)
EXCEL = Format("excel", (".csv",), "excel_csv")  # replaces csv with --excel-safe
FEATURE_FORMATS = (
    Format("parquet", (".parquet",), "features.parquet", table=True),
    Format("npz", (".npz",), "features.npz", table=True, seeks=True),
    Format("npy", (".npy",), "features.npy", table=True, seeks=True),
)
MAGIC = 4  # bytes
TABLES = {known.magic: known.name for known in FORMATS if known.magic}


def choose_format(
    output: str | None, name: str | None, formats: Sequence[Format] = FORMATS, *, excel_safe: bool = False
) -> Format:
    """Return the format by its name, or by the suffix of the output; the first for stdout, a device or no suffix.

    Raises:
        UsageError: the format is unknown, has no variant that is safe for Excel, or the name of the output is reserved.
    """
    if output is not None:
        refuse_reserved(output)
    if name is not None:
        chosen = format_named(name, formats)
    elif output is None or not is_regular(output) or not os.path.splitext(output)[1]:
        chosen = formats[0]
    else:
        chosen = _by_suffix(output, formats)
    if excel_safe and chosen.name != "csv":
        raise UsageError(f"--excel-safe goes with CSV, not with {chosen.name}")
    return EXCEL if excel_safe else chosen


def format_named(name: str, formats: Sequence[Format]) -> Format:
    """Return the format called ``name``. Raises UsageError if none of ``formats`` is called so."""
    chosen = next((known for known in formats if known.name == name), None)
    if chosen is None:
        names = [known.name for known in formats]
        raise UsageError(f"--format {name}{nearest(name, names)}: choose {', '.join(names)}")
    return chosen


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format ``name`` for predictions with ``top_k`` ranks.

    Raises:
        UsageError: the format is unknown, or cannot hold as many ranks.
    """
    row_format: RowFormat[Prediction] = format_named(name, (*FORMATS, EXCEL)).load().open_format(name, top_k)
    return row_format


def _by_suffix(output: str, formats: Sequence[Format]) -> Format:
    for known in formats:
        if output.lower().endswith(known.suffixes):
            return known
    suffix, suffixes = os.path.splitext(output)[1].lower(), [suffix for known in formats for suffix in known.suffixes]
    near = get_close_matches(suffix, suffixes, n=1, cutoff=0.7)
    guess = f", did you mean {near[0]}? Choose" if near else ": choose"
    raise UsageError(f"{output}: unknown suffix {suffix}{guess} {' '.join(suffixes)}, or name the format with --format")
