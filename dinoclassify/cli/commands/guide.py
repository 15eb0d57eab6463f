"""`dinoclassify guide`."""

import sys

from dinoclassify import guide as pages
from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_lines, print_table, writing_to_stdout
from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest


def guide(topic: options.Topic = None, search: options.Search = None) -> None:
    """Show the manual.

    Without TOPIC it lists the topics. A page appears in the pager of the terminal, and as Markdown in a pipe.

    Examples:
      dinoclassify guide
      dinoclassify guide resume
      dinoclassify guide --search systemd
    """
    page = pages.find_topic(topic) if topic is not None else None
    if topic is not None and page is None:
        raise UsageError(f"the guide has no page {topic}{nearest(topic, pages.TOPICS)}: dinoclassify guide lists them")
    if search is not None:
        _print_passages(search, page)
    elif page is not None:
        _show(pages.read_page(page))
    else:
        print_table([{"topic": name, "answers": pages.summary(name)} for name in pages.TOPICS], as_json=False)


def _print_passages(word: str, topic: str | None) -> None:
    """Print the passages of one topic, or of all, that have the word."""
    if not word.strip():
        raise UsageError("--search needs a word, such as --search systemd")
    passages = [
        {"topic": name, "heading": heading, "passage": passage}
        for name, heading, passage in pages.search(word)
        if topic in (None, name)
    ]
    if not passages:
        where = f"the page {topic}" if topic is not None else "the guide"
        cure = f"leave out {topic} to search all pages" if topic is not None else "dinoclassify guide lists its topics"
        raise UsageError(f"{where} does not have the word {word}: {cure}")
    print_table(passages, as_json=False)


@writing_to_stdout()
def _show(page: str) -> None:
    """Print a page: for people on a terminal, as Markdown in a pipe."""
    if sys.stdout is not None and sys.stdout.isatty():
        from dinoclassify.cli.markdown import show

        show(page)
    else:
        print_lines([page.rstrip("\n")])
