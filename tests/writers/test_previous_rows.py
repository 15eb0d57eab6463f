"""The rows of earlier runs, by image."""

import os

import pytest

from dinoclassify.errors import OutputError
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import Source
from dinoclassify.writers.formats.jsonl import JSONLines
from dinoclassify.writers.previous_rows import PreviousRows


def test_a_full_folder_for_temporary_files_is_an_output_error() -> None:
    rows = PreviousRows(JSONLines(1), os.getcwd())
    rows._table.execute("PRAGMA max_page_count = 20")

    def fill() -> None:
        for number in range(1000):
            rows.add(Prediction(f"{number}.jpg", "ok", (Label("x" * 100, 0, 0.5),)), os.getcwd(), replaces="changed")

    with pytest.raises(
        OutputError, match=r"cannot keep the rows of the earlier run .*full.*: make room for temporary files"
    ):
        fill()


def test_a_path_that_is_named_100_000_times_is_claimed_in_order() -> None:
    folder, gone = os.getcwd(), Prediction("gone.jpg", "failed", failure=Failure("vanished", "it is gone"))
    rows = PreviousRows(JSONLines(1), folder)
    for _ in range(100_000):
        rows.add(gone, folder, replaces="changed")
    assert [row.number for _ in range(100_000) if (row := rows.claim(Source("gone.jpg")))] == list(range(100_000))


def test_a_row_of_changed_content_replaces_all_earlier_rows() -> None:
    rows = PreviousRows(JSONLines(1), os.getcwd())
    for mtime_ns in (1, 1, 1, 2, 2, None, None):
        row = Prediction("a.jpg", "ok", (Label("x", 0, 0.5),), size=1, mtime_ns=mtime_ns)
        rows.add(row, os.getcwd(), replaces="changed")
    assert [number for number, _, _ in rows.unclaimed()] == [5, 6]
