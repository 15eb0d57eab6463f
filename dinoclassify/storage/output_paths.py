"""The names of an output's metadata, journal, seen and origin files."""

import os
import re
from dataclasses import dataclass

from dinoclassify.errors import UsageError

META = ".meta.json"
PARTIAL = ".partial"
SEEN = ".seen"
_ORIGIN = ".origin.json"
_RESERVED = {META: "the metadata", PARTIAL: "the unfinished rows", SEEN: "what --watch has seen"}
_ENDINGS = re.compile(rf"({'|'.join(map(re.escape, (META, PARTIAL, SEEN, _ORIGIN)))})+$")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The paths, or URLs, of an output and of the files that a run keeps beside it."""

    output: str

    @classmethod
    def resolved(cls, output: str) -> "OutputPaths":
        """Return the paths beside ``output``, or beside its target if it is a link."""
        return cls(os.path.realpath(output))

    @property
    def meta(self) -> str:
        """The run metadata of the finished rows."""
        return self.output + META

    @property
    def journal(self) -> str:
        """The file or folder of the rows of an unfinished run."""
        return self.output.rstrip("/") + PARTIAL

    @property
    def journal_meta(self) -> str:
        """The run metadata of the journal of a file."""
        return self.journal + META

    @property
    def seen(self) -> str:
        """The images that ``--watch`` has seen."""
        return self.output + SEEN

    @property
    def origin(self) -> str:
        """For the local stage of an object: the object that the run started from."""
        return self.output + _ORIGIN

    @property
    def files(self) -> tuple[str, str, str, str]:
        """The files of a run without ``--watch``: the output, its metadata, the journal and its metadata."""
        return self.output, self.meta, self.journal, self.journal_meta


def journal_name(output: str) -> str:
    """Return the journal of a file as messages name it: relative, unless ``output`` is a link."""
    return (OutputPaths.resolved(output) if os.path.islink(output) else OutputPaths(output)).journal


def output_of(name: str) -> str:
    """Return the output that a file belongs to, from the name of either."""
    return _ENDINGS.sub("", name)


def refuse_reserved(output: str) -> None:
    """Raise UsageError for an output whose name ends like that of a file beside an output."""
    for ending, content in _RESERVED.items():
        if output.rstrip("/").endswith(ending):
            raise UsageError(f"{output}: the suffix {ending} is kept for {content} of an output; choose another name")
