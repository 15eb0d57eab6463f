"""Topics, summaries and the search."""

import re

import pytest

from dinoclassify import guide
from tests.conftest import ROOT


def test_each_page_is_a_topic() -> None:
    assert {f"{topic}.md" for topic in guide.TOPICS} == {page.name for page in ROOT.glob("dinoclassify/guide/*.md")}


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_a_page_begins_with_its_title_and_a_sentence_that_fits_beside_its_topic(topic: str) -> None:
    title, empty, summary, after, *_ = guide.read_page(topic).splitlines()
    assert re.fullmatch(r"# [A-Z].*[^.]", title)
    assert (empty, after) == ("", "")
    assert summary == guide.summary(topic)
    assert summary.endswith(".")
    assert len(summary) <= 64  # one line of a table on a terminal of 80 columns


def test_the_search_finds_words_in_any_case_in_all_kinds_of_passages() -> None:
    assert ("watch", "Watch a drop folder", "Watch a drop folder") in guide.search("DROP FOLDER")
    assert ("watch", "Run it as a systemd service", "[Unit]") in guide.search("[unit]")
    assert list(guide.search("zebra crossing")) == []


def test_a_passage_is_a_sentence_an_item_a_row_or_a_line_of_code(monkeypatch: pytest.MonkeyPatch) -> None:
    page = """# Title

Which files it takes.

## First

One sentence that
goes on. Another one: `a.b` too, see [that](inputs.md#lists) and [here](#first).

1. the first
2. the second

- an item
  of two lines
- another

| a | b |
|---|---|
| cell. One | cell |

```text
# no heading
ls
```
"""
    monkeypatch.setattr(guide, "TOPICS", ("x",))
    monkeypatch.setattr(guide, "read_page", lambda _: page)
    assert [(heading, passage) for _, heading, passage in guide.search("")] == [
        ("Title", "Title"),
        ("Title", "Which files it takes."),
        ("First", "First"),
        ("First", "One sentence that goes on."),
        ("First", "Another one: `a.b` too, see that (guide inputs) and here."),
        ("First", "the first"),
        ("First", "the second"),
        ("First", "an item of two lines"),
        ("First", "another"),
        ("First", "a | b"),
        ("First", "cell. One | cell"),
        ("First", "# no heading"),
        ("First", "ls"),
    ]
