"""Interrupted runs: which of their rows are kept, and when they are refused or discarded."""

import os
from pathlib import Path

import pytest

from dinoclassify.errors import UsageError
from dinoclassify.storage.remote.url import is_url
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_file import OutputFile
from dinoclassify.writers.output_folder import OutputFolder
from tests.helpers.outputs import PATHS, change, content, interrupt, leftovers, rows, write_output

pytestmark = pytest.mark.usefixtures("eleven_images")


@pytest.mark.parametrize("resume", [False, True])
def test_only_fresh_discards_the_rows_of_an_interrupted_run(output_name: str, resume: bool) -> None:
    if resume:
        write_output(output_name, PATHS[:2])
        interrupt(output_name, PATHS, 5, resume=True)
    else:
        interrupt(output_name, PATHS, 5)
    before = leftovers()
    with pytest.raises(UsageError, match=r"has [45] finished rows of an interrupted run: --resume goes on, --fresh"):
        write_output(output_name, PATHS)
    assert leftovers() == before
    assert [change for _, change in write_output(output_name, PATHS, fresh=True)] == ["new"] * 11
    assert leftovers() == []


def test_a_resumed_run_that_replaces_an_output_still_replaces_it(output_name: str) -> None:
    write_output(output_name, PATHS[:3])
    before = content(output_name)
    interrupt(output_name, PATHS[4:], 5)
    assert content(output_name) == before, "until the end it is as it was"
    assert [change for _, change in write_output(output_name, PATHS[4:], resume=True)].count("kept") == 4
    assert [row.path for row in rows(output_name)] == PATHS[4:]


def test_an_interrupted_run_of_less_than_a_batch_is_not_resumed(output_name: str) -> None:
    """Rows of less than a batch are made again, so that the batches stay the same."""
    interrupt(output_name, PATHS, 3, batch_size=8)
    assert [change for _, change in write_output(output_name, PATHS, batch_size=8)] == ["new"] * 11
    assert leftovers() == []


def test_an_interrupted_run_can_only_be_resumed_in_its_own_folder(output_name: str) -> None:
    output_name = output_name if is_url(output_name) else os.path.abspath(output_name) + "/" * output_name.endswith("/")
    interrupt(output_name, PATHS, 6)
    here = os.getcwd()
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    with pytest.raises(UsageError, match=f"has paths relative to {here}: change to that folder first"):
        write_output(output_name, [f"../{path}" for path in PATHS], resume=True)


def test_no_row_is_doubled_after_two_interruptions(output_name: str) -> None:
    write_output(output_name, PATHS)
    for text in ("one", "three"):
        for path in PATHS[:6]:
            change(path, text)
        interrupt(output_name, PATHS, 4, resume=True)
    write_output(output_name, PATHS, resume=True)
    assert [(row.path, row.label) for row in rows(output_name)] == [
        (path, "fish 5" if path in PATHS[:6] else "fish 1") for path in PATHS
    ]


def test_no_retried_row_is_doubled_after_interruptions(output_name: str) -> None:
    for path in PATHS[:8]:
        change(path, "?")
    interrupt(output_name, PATHS, 9)
    for path in PATHS[:8]:
        change(path, "x")
    for _ in range(2):
        interrupt(output_name, PATHS, 4, resume=True, retry_failed=True)
    write_output(output_name, PATHS, resume=True, retry_failed=True)
    assert [(row.path, row.status) for row in rows(output_name)] == [(path, "ok") for path in PATHS]


@pytest.mark.parametrize("kind", ["file.csv", "folder/"])
def test_an_interrupted_run_with_other_columns_is_refused_and_the_message_names_the_right_option(kind: str) -> None:
    interrupt(kind, PATHS, 5)
    three = open_format("csv", 3)
    place = OutputFolder(kind, three, batch_size=2) if kind.endswith("/") else OutputFile(kind, three, batch_size=2)
    for resume, message in (
        (True, "use --runtime openvino, name another -o, or start over with --fresh"),
        (False, "finished rows of an interrupted run"),
    ):
        with pytest.raises(UsageError, match=message):
            Output.open(place, three.lines, {"model": "m", "runtime": "torch"}, UpdateOptions(resume=resume))


def test_the_journal_of_a_symbolic_link_is_beside_its_target() -> None:
    os.mkdir("real")
    os.symlink("real/file.csv", "file.csv")
    interrupt("file.csv", PATHS, 6)
    journal = os.path.realpath("file.csv.partial").replace("/file", "/real/file")
    assert os.path.exists(journal)
    with pytest.raises(UsageError, match=f"{journal} has 6 finished rows of an interrupted run"):
        write_output("file.csv", PATHS)
    write_output("file.csv", PATHS, resume=True)
    assert os.path.islink("file.csv")
    assert len(rows("file.csv")) == 11


def test_the_journal_of_an_older_version_without_a_header_is_resumed() -> None:
    write_output("file.csv", PATHS[:4])
    interrupt("file.csv", PATHS, 4, resume=True)
    journal = Path("file.csv.partial")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[1:]))
    assert [change for _, change in write_output("file.csv", PATHS, resume=True)].count("kept") == 8
    assert [row.path for row in rows("file.csv")] == PATHS
