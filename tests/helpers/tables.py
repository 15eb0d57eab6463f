"""Tables with a column of images, made in memory, and what is found in them."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dinoclassify.discovery.containers.table import images as images_of
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

SIGNATURE = (123, 456)
IMAGES = [b"image %d " % number * number for number in range(1, 60)]
KINDS = ["parquet", "stream.arrow", "file.arrow"]


def structs(contents: Sequence[bytes | None], kind: "pa.DataType" = None) -> "pa.Array":
    fields = pa.struct([("bytes", kind or pa.binary()), ("path", pa.string())])
    return pa.array([None if content is None else {"bytes": content, "path": "x.png"} for content in contents], fields)


def written(columns: dict[str, object], kind: str, rows: int = 10) -> bytes:
    """The table as a file of this kind, in batches or row groups of so many rows."""
    table, stream = pa.table(columns), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, stream, row_group_size=rows)
    else:
        new = pa.ipc.new_stream if kind.startswith("stream") else pa.ipc.new_file
        with new(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return stream.getvalue()


def listed(content: bytes, kind: str, column: str = "image") -> list[Source]:
    return list(images_of(f"a.{kind}", column, lambda _: io.BytesIO(content), SIGNATURE))


def codes(sources: list[Source]) -> list[str]:
    return [source.content.code if isinstance(source.content, Failure) else "ok" for source in sources]
