"""Two rows, and files of them."""

from contextlib import closing
from pathlib import Path

from dinoclassify.storage.atomic import is_regular
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import FORMATS, open_format
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.stream import stream_rows

FORMAT_NAMES = [made.name for made in FORMATS]
ROWS = [
    Prediction("a,b.jpg", "ok", (Label("tench, Tinca tinca", 0, 0.75), Label("x", 1, 0.2)), size=1, mtime_ns=2**60),
    Prediction("caf\udce9.jpg", "failed", failure=Failure("truncated", "image file is truncated")),
]


def write_rows(path: Path, format_name: str, rows: list[Prediction] = ROWS) -> None:
    if not is_regular(str(path)):
        stream_rows(str(path), open_format(format_name, 2), rows)
        return
    output = OutputFile(str(path), open_format(format_name, 2), batch_size=8)
    with closing(output.journal):
        output.journal.begin({})
        for row in rows:
            output.journal.append(row)
        output.publish(None, {"made_with": {}, "seconds": 1})
