"""The guide: one Markdown page for each topic, in the order in which `dinoclassify guide` lists them.

The third line of a page is a sentence that says what the page answers.
"""

import re
from collections.abc import Iterator
from importlib.resources import files

TOPICS = (
    "inputs",
    "outputs",
    "failures",
    "resume",
    "shell",
    "cron",
    "watch",
    "models",
    "speed",
    "groups",
    "sort",
    "tag",
    "report",
    "train",
    "evaluate",
    "embed",
    "archives",
    "stores",
    "shards",
    "ray",
    "billion",
    "python",
    "doctor",
    "security",
    "check",
)

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def read_page(topic: str) -> str:
    """Return the Markdown of one of `TOPICS`."""
    return files(__name__).joinpath(f"{topic}.md").read_text(encoding="utf-8")


def summary(topic: str) -> str:
    """Return the sentence that says what a page answers."""
    return read_page(topic).splitlines()[2]


def search(word: str) -> Iterator[tuple[str, str, str]]:
    """Yield topic, heading and passage of each passage that has the word, in any case."""
    for topic in TOPICS:
        for heading, passage in _passages(read_page(topic)):
            if word.casefold() in passage.casefold():
                yield topic, heading, passage


def _passages(page: str) -> Iterator[tuple[str, str]]:
    """Yield heading and passage: a sentence, an item of a list, a row of a table, or a line of code."""
    heading, paragraph, is_code = "", "", False
    for line in [*page.splitlines(), ""]:
        is_text = not is_code and line.strip() and not line.startswith(("#", "|", "```", "- "))
        if paragraph and not is_text:
            yield from ((heading, sentence) for sentence in _SENTENCE_END.split(paragraph.strip("- ")))
            paragraph = ""
        if line.startswith("```"):
            is_code = not is_code
        elif line.startswith("#") and not is_code:
            heading = line.lstrip("# ")
            yield heading, heading
        elif is_text or line.startswith("- "):
            paragraph += f" {line.strip()}"
        elif line.strip("|- "):
            yield heading, line if is_code else line.strip("| ")
