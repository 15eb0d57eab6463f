"""What the shell offers for the value of an option or argument when the user presses Tab."""

from collections.abc import Iterator
from glob import escape, iglob

from dinoclassify import guide
from dinoclassify.models.names import BUILTIN, KNOWN


def complete_model() -> Iterator[tuple[str, str]]:
    """Each short name that `--model` takes, and the model that it stands for."""
    yield from ((name, known.hub_id) for name, known in KNOWN.items())
    yield BUILTIN, "EfficientNet-Lite0"


def complete_groups(incomplete: str) -> Iterator[str]:
    """The groups that come with the program, and files that may hold others, with the folders on the way to them."""
    yield "everyday"
    yield from iglob(f"{escape(incomplete)}*.csv")
    yield from iglob(f"{escape(incomplete)}*/")


def complete_topic() -> Iterator[tuple[str, str]]:
    """Each topic of the guide, and what its page answers."""
    yield from ((topic, guide.summary(topic)) for topic in guide.TOPICS)
