"""What the shell offers for the value of an option or argument when the user presses Tab."""

from collections.abc import Iterator

from dinoclassify import guide
from dinoclassify.models.names import BUILTIN, KNOWN


def complete_model() -> Iterator[tuple[str, str]]:
    """Each short name that `--model` takes, and the model that it stands for."""
    yield from ((name, known.hub_id) for name, known in KNOWN.items())
    yield BUILTIN, "EfficientNet-Lite0"


def complete_groups() -> Iterator[str]:
    """The groups that come with the program. For any other letters the shell offers files, and quotes their names."""
    yield "everyday"


def complete_topic() -> Iterator[tuple[str, str]]:
    """Each topic of the guide, and what its page answers."""
    yield from ((topic, guide.summary(topic)) for topic in guide.TOPICS)
