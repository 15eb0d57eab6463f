"""SQLite outputs that another program has open, or had open when it died: its changes never get into new rows."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.errors import OutputError
from dinoclassify.results.merge.merge import merge
from dinoclassify.results.reader import read_predictions
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.formats.sqlite import refuse_database_in_use
from dinoclassify.writers.output_file import OutputFile

ROWS = [Prediction(f"{number}.jpg", "ok", (Label("cat", 1, 0.75),), size=1, mtime_ns=2) for number in range(50)]
# What a program that is killed leaves: changes in FILE-wal, or half of them in FILE and the rest in FILE-journal.
_DIE = """
import os, sqlite3, sys
database = sqlite3.connect("labels.db", isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute(f"PRAGMA journal_mode = {sys.argv[1]}")
if sys.argv[1] != "wal":
    database.execute("BEGIN")
database.execute("CREATE TABLE junk (text)")
database.executemany("INSERT INTO junk VALUES (?)", [["x" * 500]] * 500)
os._exit(0)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish("labels.db")


def publish(name: str, before_the_end: Callable[[], None] = lambda: None) -> None:
    output = OutputFile(name, open_format("sqlite", 1), batch_size=8)
    with closing(output.journal):
        output.journal.begin({"made_with": {}})
        for row in ROWS:
            output.journal.append(row)
        before_the_end()
        output.publish(None, {"made_with": {}})


def die(mode: str) -> None:
    subprocess.run([sys.executable, "-c", _DIE, mode], check=True, timeout=60)


@contextmanager
def opened(*statements: str) -> Iterator[None]:
    """Another program that has the database open, after it executed these statements."""
    with closing(sqlite3.connect("labels.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield


def recover(name: str) -> None:
    """Do what the message tells people to run."""
    with closing(sqlite3.connect(name)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)


def refused(name: str = "labels.db") -> str:
    with pytest.raises(OutputError) as raised:
        refuse_database_in_use(name)
    return str(raised.value)


def is_sound() -> bool:
    with closing(sqlite3.connect("labels.db")) as connection:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    return said == "ok" and list(read_predictions("labels.db")) == ROWS


@pytest.mark.parametrize("command", [["predict", "."], ["predict", ".", "--resume"], ["merge", "part.db"]])
def test_an_open_database_is_refused_before_the_model_is_loaded(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("labels.db", "part.db")
    Path("a.jpg").touch()
    model = ["-m", "./no-model"] if command[0] == "predict" else []
    with opened("PRAGMA journal_mode = wal", "UPDATE predictions SET label = 'dog'"):
        assert run([*command, *model, "-o", "labels.db"]) == 6
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{os.getcwd()}/labels.db-wal belongs to a program that has it open, or died; close it" in err
    assert "or run: sqlite3 labels.db 'PRAGMA journal_mode = DELETE' (dinoclassify guide resume)" in err
    assert {row.label for row in read_predictions("labels.db")} == {"dog"}
    assert not os.path.exists("labels.db.partial")


@pytest.mark.parametrize(("mode", "ending"), [("wal", "-wal"), ("delete", "-journal"), ("persist", "-journal")])
def test_the_database_of_a_program_that_died_is_refused_until_it_is_recovered(mode: str, ending: str) -> None:
    die(mode)
    assert f"labels.db{ending} belongs to a program" in refused()
    recover("labels.db")
    publish("labels.db")
    assert is_sound()


@pytest.mark.parametrize(
    "statements",
    [
        ("PRAGMA journal_mode = wal", "SELECT * FROM predictions"),  # an empty labels.db-wal, so far
        ("BEGIN", "DELETE FROM predictions"),  # a journal without a header, so far
        ("BEGIN EXCLUSIVE",),
    ],
)
def test_a_database_that_another_program_opens_during_the_run_stays_as_it_is(statements: tuple[str, ...]) -> None:
    with opened(*statements):
        with pytest.raises(OutputError, match=r"^cannot write labels.db: "):
            publish("labels.db")
        assert os.path.exists("labels.db.partial"), "--resume goes on with it"
    recover("labels.db")
    publish("labels.db")
    assert is_sound()


def test_merge_refuses_a_database_that_another_program_has_opened() -> None:
    os.rename("labels.db", "part.db")
    Path("part.db.meta.json").write_text('{"made_with": {"format": "sqlite", "top-k": 1}}')
    publish("labels.db")
    with opened("PRAGMA journal_mode = wal", "SELECT * FROM predictions"):
        with pytest.raises(OutputError, match=r"labels.db-wal belongs to a program"):
            merge(["part.db"], "labels.db", "sqlite")
        assert os.path.exists("labels.db.meta.json")


@pytest.mark.parametrize("mode", ["truncate", "persist", "delete"])
def test_a_finished_sqlite_journal_is_left_alone(mode: str) -> None:
    with opened(f"PRAGMA journal_mode = {mode}", "CREATE TABLE more (text)"):
        assert os.path.exists("labels.db-journal") == (mode != "delete")
        publish("labels.db")
        assert is_sound()
    assert is_sound()


def test_symbolic_links_are_followed_as_sqlite_follows_them() -> None:
    os.mkdir("links")
    os.symlink("../labels.db", "links/link.db")
    die("wal")
    assert f"cannot write links/link.db: {os.getcwd()}/labels.db-wal belongs to" in refused("links/link.db")
    recover("links/link.db")
    refuse_database_in_use("links/link.db")


@pytest.mark.parametrize("file", ["gone", "empty"])
@pytest.mark.parametrize(("ending", "content"), [("-wal", b""), ("-wal", b"x"), ("-journal", b"x")])
def test_the_changes_of_a_removed_database_are_named(file: str, ending: str, content: bytes) -> None:
    os.unlink("labels.db")
    if file == "empty":
        Path("labels.db").touch()
    Path(f"labels.db{ending}").write_bytes(content)
    assert "belongs to a database that is gone: move it away, or remove it" in refused()


def test_a_file_that_is_no_database_is_replaced() -> None:
    Path("labels.db").write_text("path,status\n" * 1000)
    publish("labels.db")
    assert is_sound()
