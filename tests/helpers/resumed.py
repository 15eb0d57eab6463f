"""Outputs of runs that are resumed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

FILES = ["out.csv", "out.jsonl", "out.parquet", "out.db"]
Predict = Callable[..., tuple[int, str]]


def content_of(name: str) -> object:
    """The bytes of a file; the rows of a table, which also carries the time and other metadata of the run."""
    if name.endswith(".parquet"):
        return pq.read_table(name)
    if name.endswith(".db"):
        with closing(sqlite3.connect(name)) as database:
            return database.execute("SELECT * FROM predictions ORDER BY rowid").fetchall()
    return Path(name).read_bytes()


def make_images(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (60, 60), (number % 251, number * 7 % 256, 90)).save(folder / f"{number:05}.png")
    (folder / "00007.png").write_text("broken")


def read_rows(name: str) -> list[dict[str, object]]:
    import pandas as pd

    if name.endswith(".db"):
        with closing(sqlite3.connect(name)) as database:
            table = pd.read_sql("SELECT * FROM predictions", database)
    elif name.endswith(".jsonl"):
        table = pd.read_json(name, lines=True)
    else:
        table = pd.read_csv(name) if name.endswith(".csv") else pd.read_parquet(name)
    return list(table[["path", "status", "label"]].fillna("").to_dict("records"))  # type: ignore[arg-type]  # by str
