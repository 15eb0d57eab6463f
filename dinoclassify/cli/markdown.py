"""Markdown pages on a terminal."""

import os
import re
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.table import Table
from rich.theme import Theme

_WIDTH = 100  # characters: longer lines are hard to read
_ENDLESS = 10_000
_STYLES = {"code": "bold", "code_block": "", "h1": "bold", "h2": "bold underline"}  # for dark and light terminals
_THEME = Theme({f"markdown.{name}": style for name, style in _STYLES.items()})

_LINK = re.compile(r"\[([^\]]+)\]\((\w+)\.md[^)]*\)")
_LINK_IN_PAGE = re.compile(r"\[([^\]]+)\]\(#[^)]*\)")
_LANGUAGE = re.compile(r"^```\w+$", flags=re.MULTILINE)
_SPACES_BEFORE_COMMENT = re.compile(r"(?<=\S) {2,}(?=# )")


class _SpacedTable(TableElement):
    """A table with an empty line between rows if some of them take several lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                width = console.measure(table, options=options.update_width(_ENDLESS)).maximum
                table.leading = int(width > options.max_width)
            yield table


class _Page(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "table_open": _SpacedTable}


def show(text: str) -> None:
    """Show a page in the pager of the terminal."""
    os.environ.setdefault("LESS", "FRX")  # as git does: print a short page, and show colours
    console = Console(theme=_THEME, width=min(Console().width, _WIDTH))
    with console.pager(styles=True):
        console.print(_Page(_for_terminal(text, console.width), code_theme="ansi_dark", hyperlinks=False))


def _for_terminal(text: str, width: int) -> str:
    """Return the page with commands instead of links, and with code that fits the width where it can."""
    text = _LINK_IN_PAGE.sub(r"\1", _LINK.sub(r"\1 (**guide \2**)", text))
    text = _LANGUAGE.sub("```text", text)
    lines = (_SPACES_BEFORE_COMMENT.sub("  ", line) if len(line) > width - 2 else line for line in text.splitlines())
    return "\n".join(lines)
