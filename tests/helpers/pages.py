"""README and the pages of the guide, taken apart."""

import re
from collections.abc import Iterator

from dinoclassify import guide
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README} | {f"dinoclassify/guide/{name}.md": guide.read_page(name) for name in guide.TOPICS}
EACH_PAGE = list(PAGES)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = "") -> list[str]:
    """The blocks of code of one language, or of all."""
    return [text for name, text in _BLOCK.findall(page) if language in ("", name)]


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two first lines."""
    section = page.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def headings(page: str) -> list[str]:
    """The headings, without their marks."""
    return re.findall(r"^#+ (.+)$", _BLOCK.sub("", page), flags=re.MULTILINE)


def links(page: str) -> list[str]:
    """What the links lead to."""
    return re.findall(r"\]\(([^)]+)\)", _BLOCK.sub("", page))


def anchor(heading: str) -> str:
    """The anchor that the repository's site makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def sentences(page: str) -> Iterator[list[str]]:
    """The words of each sentence: of paragraphs, items of lists and cells. A code span counts as one word."""
    text = _BLOCK.sub("\n", page)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n(?=- |#|\|)|(?<!\\)\|", text):
        for sentence in re.split(r"(?<=[.?!])\s+", paragraph.strip("# -\n")):
            if words := re.findall(r"[^\s]*\w[^\s]*", sentence):
                yield words


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """The name and the options of each `dinoclassify` in the blocks of code for a shell or its files."""
    for block in (text for language in ("text", "sh", "ini", "yaml") for text in blocks(page, language)):
        for part in re.split(r"\n|\|\||&&|[|;]", re.sub(r"(^| )# .*", "", block, flags=re.MULTILINE)):
            if command := re.search(r"\bdinoclassify ([a-z]+)\b(.*)", part):
                yield command[1], re.findall(r"(?<!\S)(--[a-z][\w-]*|-[A-Za-z0])(?=[\s=)]|$)", command[2])
