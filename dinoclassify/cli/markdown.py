"""Markdown pages on a terminal."""

import os
import re
import shlex
import signal
import subprocess
import sys
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement, TableElement
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from dinoclassify.guide import text_and_code, without_links

_WIDTH = 100  # characters: longer lines are hard to read
_NARROWEST = 20
_ENDLESS = 10_000
_STYLES = {"code": "bold", "code_block": "cyan", "h1": "bold", "h2": "bold underline"}  # for dark and light terminals
_THEME = Theme({f"markdown.{name}": style for name, style in _STYLES.items()})

_COMMENT = re.compile(r"(?:^|(?<=\s))# .*", flags=re.MULTILINE)


class _Table(TableElement):
    """A table with an empty line between rows if some of them take several lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                width = console.measure(table, options=options.update_width(_ENDLESS)).maximum
                table.leading = int(width > options.max_width)
            yield table


class _Code(CodeBlock):
    """Code in the lines that it has, so that it can be copied: the terminal or the pager breaks long ones."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_fit(line, options.max_width) for line in str(self.text).rstrip().splitlines()]
        code = Text("\n".join(lines), style="markdown.code_block", no_wrap=True, overflow="ignore")
        code.highlight_regex(_COMMENT, "dim")
        yield code


class _Page(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "table_open": _Table,
        "fence": _Code,
    }


def show(page: str) -> None:
    """Show a page in the pager of the terminal, or print it if there is none."""
    console = Console(theme=_THEME, width=max(_NARROWEST, min(Console().width, _WIDTH)))
    with console.capture() as captured:
        console.print(render(page), crop=False)
    text = captured.get()
    if console.is_dumb_terminal or not _has_shown(text):
        print(text, end="")


def _has_shown(text: str) -> bool:
    """Show text in the user's pager, and wait for its end. Returns False if the pager fails."""
    less = f"-R {os.environ['LESS']}" if "LESS" in os.environ else "FRX"  # FRX as git: a short page is printed
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the pager, which would inherit SIG_IGN
    try:
        command = shlex.split(os.environ.get("MANPAGER") or os.environ.get("PAGER") or "less")
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"LESS": less})  # noqa: S603 - the user's
    except (OSError, ValueError):  # there is none of this name, or its quotes do not match
        return False
    else:
        pager.communicate(text.encode(sys.stdout.encoding, "backslashreplace"))
        return pager.returncode <= 0
    finally:
        signal.signal(signal.SIGINT, before)


def render(page: str) -> Markdown:
    """Return a page as it looks on a terminal. Print it with ``crop=False``, or long lines of code lose their end."""
    text = "".join(f"```\n{part}```\n" if is_code else without_links(part) for part, is_code in text_and_code(page))
    return _Page(text, hyperlinks=False)


def _fit(line: str, width: int) -> str:
    """Bring the comment of a line that is too long nearer, or put it above the line."""
    if len(line) <= width or (comment := _COMMENT.search(line)) is None:
        return line
    command = line[: comment.start()].rstrip()
    short = f"{command}  {comment[0]}"
    return short if len(short) <= width else f"{comment[0]}\n{command}"
