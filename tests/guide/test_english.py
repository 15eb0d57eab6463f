"""README and the guide can be read: short sentences, and links that lead somewhere."""

import re
from pathlib import PurePosixPath
from statistics import mean

import pytest

from tests.conftest import ROOT
from tests.helpers.pages import EACH_PAGE, PAGES, README, anchor, headings, links, sentences


@pytest.mark.parametrize("name", EACH_PAGE)
def test_no_sentence_has_more_than_thirty_words_and_few_have_more_than_twenty(name: str) -> None:
    lengths = {" ".join(words): len(words) for words in sentences(PAGES[name])}
    assert {sentence for sentence, length in lengths.items() if length > 30} == set()
    assert mean(length > 20 for length in lengths.values()) < 0.1


def test_sentences_are_counted_in_paragraphs_lists_and_tables() -> None:
    page = "# A title\n\nOne `a b c` two. Three\nfour!\n\n- an [item of](x.md) a list\n\n"
    page += "| a cell. Its | other |\n|---|---|\n"
    assert [" ".join(words) for words in sentences(page)] == [
        "A title", "One code two.", "Three four!", "an item of a list", "a cell.", "Its", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EACH_PAGE)
def test_links_lead_to_files_and_headings_that_are_there(name: str) -> None:
    for link in links(PAGES[name]):
        if link.startswith("https://"):
            continue
        target, _, wanted = link.partition("#")
        path = (ROOT / PurePosixPath(name).parent / target).resolve() if target else ROOT / name
        assert path.is_file(), link
        assert not wanted or wanted in map(anchor, headings(path.read_text())), link


def test_readme_is_short_and_leads_to_each_page_of_the_guide() -> None:
    assert len(README.splitlines()) <= 250
    assert {link.partition("#")[0] for link in links(README) if link.endswith(".md")} == set(PAGES) - {"README.md"}


@pytest.mark.parametrize("name", EACH_PAGE)
def test_pages_say_image_and_not_picture(name: str) -> None:
    assert re.findall(r"\bpictures?\b", PAGES[name], flags=re.IGNORECASE) == []


ANSWERS = {  # topic -> words of the messages that lead to its page
    "cron": ["--resume"],
    "doctor": ["TMPDIR", "SQLITE_TMPDIR"],
    "ray": ["share", "--ray-address", "folder"],
    "resume": ["--fresh", "--top-k", "spreadsheet", "claim", "`FILE-wal`"],
    "shards": ["merge", "--shard"],
    "sort": ["--to ROOT", "signature"],
    "speed": ["int8", "98 %"],
    "stores": ["--allow-private-urls"],
    "train": ["looks", "near-duplicates"],
    "watch": ["disk", "cannot be written"],
}


def test_messages_lead_to_pages_that_say_more() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "dinoclassify").rglob("*.py"))
    assert set(re.findall(r"dinoclassify guide ([a-z]+)\)", sources)) == set(ANSWERS)
    for topic, words in ANSWERS.items():
        page = " ".join(PAGES[f"dinoclassify/guide/{topic}.md"].split())
        assert [word for word in words if word not in page] == [], topic
