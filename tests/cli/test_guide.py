"""`dinoclassify guide`: topics, pages on a terminal and in a pipe, and the search."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from dinoclassify import guide
from dinoclassify.cli import run
from dinoclassify.cli.app import app
from tests.conftest import Cli
from tests.helpers.pages import blocks

STYLE = re.compile(r"\x1b\[[\d;]*m")


def test_it_lists_the_topics_with_what_they_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["topic\tanswers", *(f"{topic}\t{guide.summary(topic)}" for topic in guide.TOPICS)]


def test_a_page_is_markdown_in_a_pipe_and_takes_no_heavy_import(cli: Cli) -> None:
    done = cli("guide", "resume", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert (done.returncode, done.stdout.decode()) == (0, guide.read_page("resume"))
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.decode().splitlines()}
    assert imported.isdisjoint({"torch", "transformers", "pandas", "numpy", "PIL", "rich", "markdown_it"})


def on_terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> str:
    """What the command prints on a terminal, with its styles."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    names = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "LESS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "dinoclassify", "guide", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=names | {"TERM": "xterm"} | environment,
        start_new_session=True,
    )
    os.close(theirs)
    printed = b""
    try:
        while part := os.read(ours, 1 << 16):
            printed += part
    except OSError:  # Linux ends a closed terminal so
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return printed.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_a_page_on_a_terminal_is_laid_out_for_its_width_and_goes_through_the_pager(columns: int) -> None:
    printed = on_terminal("sort", columns=columns, PAGER="cat")
    text = STYLE.sub("", printed)
    assert printed != text
    assert max(len(line) for line in text.splitlines() if not line.startswith("dinoclassify")) <= columns
    assert "```" not in text
    assert "](" not in text
    assert "(guide groups)" in " ".join(text.split())
    assert on_terminal("sort", PAGER="head -n 1").count("\n") == 1


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_code_on_a_terminal_can_be_copied(topic: str) -> None:
    """Each command stays on a line of its own, however narrow the terminal is."""
    from dinoclassify.cli.markdown import render

    with Console(width=60, record=True, file=StringIO()) as console:
        console.print(render(guide.read_page(topic)), crop=False)
    shown = [line.rstrip() for line in console.export_text().splitlines()]
    for block in blocks(guide.read_page(topic)):
        for line in block.splitlines():
            command = re.sub(r"(?:^|(?<=\s))# .*", "", line).rstrip()
            assert not command or command in [re.sub(r"\s+# .*", "", one) for one in shown], line


def test_code_has_no_background_so_that_it_can_be_read_on_dark_and_light_terminals() -> None:
    backgrounds = re.findall(r"\x1b\[(?:\d+;)*(4[0-8]|10[0-7])[;m]", on_terminal("sort", PAGER="cat"))
    assert backgrounds == []


def test_the_pager_shows_styles_and_ends_at_once_if_the_page_is_short(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "LESS=$LESS"\n')
    pager.chmod(0o755)
    assert on_terminal("sort", PAGER=str(pager)) == "LESS=FRX\n"
    assert on_terminal("sort", PAGER=str(pager), LESS="-i") == "LESS=-R -i\n"


@pytest.mark.parametrize("pager", ["no-such-pager", "false", "no such 'pager"])
def test_a_page_is_printed_where_the_pager_fails(pager: str) -> None:
    assert "Sort images into folders" in on_terminal("sort", PAGER=pager)


def test_a_narrow_terminal_gets_the_whole_page() -> None:
    assert len(on_terminal("sort", PAGER="cat", COLUMNS="0")) > len(guide.read_page("sort"))


def test_ctrl_c_is_for_the_pager(tmp_path: Path) -> None:
    """The command stays until the pager ends, so that both do not read the terminal at once."""
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\ntrap 'echo interrupted' INT\nkill -INT 0\nsleep 0.5\necho end\n")
    pager.chmod(0o755)
    assert on_terminal("sort", PAGER=str(pager)) == "interrupted\nend\n"


def test_the_search_prints_topic_heading_and_passage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guide", "--search", "exfat"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["topic", "heading", "passage"]
    assert lines[1][:2] == ["sort", "Undo a sort"]
    assert all("exFAT" in passage for _, _, passage in lines[1:])
    assert run(["guide", "cron", "--search", "exfat"]) == 2
    message = "dinoclassify: the page cron does not have the word exfat: leave out cron to search all pages"
    assert capsys.readouterr().err.startswith(message)
    assert run(["guide", "--search", "exfatt"]) == 2
    assert capsys.readouterr().err.startswith("dinoclassify: the guide does not have the word exfatt: ")


def test_a_page_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guide", "resuming"]) == 2
    message = "dinoclassify: the guide has no page resuming (did you mean resume?): dinoclassify guide lists them"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(("name", "topic"), [("Resume", "resume"), ("bench", "speed"), ("systemd", "watch")])
def test_commands_and_other_words_for_a_topic_lead_to_it(
    name: str, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["guide", name]) == 0
    assert capsys.readouterr().out == guide.read_page(topic)


def test_each_command_has_a_page() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    assert [name for name in commands if name != "guide" and guide.find_topic(name) is None] == []


def test_the_search_needs_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guide", "--search", "  "]) == 2
    assert capsys.readouterr().err.startswith("dinoclassify: --search needs a word, such as --search systemd. ")
