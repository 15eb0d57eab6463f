"""The guide: one Markdown page for each topic, in the order in which `dinoclassify guide` lists them.

The third line of a page is a sentence that says what the page answers.
"""

import re
from collections.abc import Iterator

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

_OTHER_NAMES = {
    "predict": "inputs",
    "merge": "shards",
    "bench": "speed",
    "classes": "train",
    "systemd": "watch",
    "errors": "failures",
    "s3": "stores",
}

_FENCE = re.compile(r"^```.*\n", flags=re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)*(\w+)\.md(?:#[^)]*)?\)")
_OTHER_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_BLOCK_END = re.compile(r"\n\s*\n|\n(?=- |\d+\. |\|)")
_ITEM = re.compile(r"^(?:- |\d+\. )")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def find_topic(name: str) -> str | None:
    """Return the topic of a name in any case: a topic, a command, or another word for one. None if there is none."""
    topic = _OTHER_NAMES.get(name.casefold(), name.casefold())
    return topic if topic in TOPICS else None


def read_page(topic: str) -> str:
    """Return the Markdown of one of `TOPICS`."""
    from importlib.resources import files  # slow to import, for commands that only name a topic

    return files(__name__).joinpath(f"{topic}.md").read_text(encoding="utf-8")


def summary(topic: str) -> str:
    """Return the sentence that says what a page answers."""
    return read_page(topic).splitlines()[2]


def text_and_code(page: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a page, and whether each is a block of code, without its fences."""
    for number, part in enumerate(_FENCE.split(page)):
        yield part, number % 2 == 1


def without_links(text: str) -> str:
    """Return Markdown for a terminal: a link to a page names the command that shows it."""
    return _OTHER_LINK.sub(r"\1", _LINK.sub(r"\1 (guide \2)", text))


def search(word: str) -> Iterator[tuple[str, str, str]]:
    """Yield topic, heading and passage of each passage that has the word, in any case."""
    for topic in TOPICS:
        for heading, passage in _passages(read_page(topic)):
            if word.casefold() in passage.casefold():
                yield topic, heading, passage


def _passages(page: str) -> Iterator[tuple[str, str]]:
    """Yield heading and passage: a sentence, a row of a table, or a line of code."""
    heading = ""
    for part, is_code in text_and_code(page):
        if is_code:
            yield from ((heading, line) for line in part.splitlines() if line)
            continue
        for block in _BLOCK_END.split(without_links(part)):
            text = " ".join(block.split())
            if text.startswith("#"):
                heading = text.lstrip("# ")
                yield heading, heading
            elif text.startswith("|"):
                yield from [(heading, text.strip("| "))] if text.strip("|- ") else []
            elif text:
                yield from ((heading, sentence) for sentence in _SENTENCE_END.split(_ITEM.sub("", text)))
