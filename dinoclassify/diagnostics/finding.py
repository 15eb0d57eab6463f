"""One line of `doctor`'s report."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "advice", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and how to mend it if it needs mending.

    The verdict is ``advice`` if a run could be faster or read more kinds of files, ``problem`` if no run can succeed.
    """

    verdict: Verdict
    topic: str
    name: str
    found: str
    cure: str | None = None

    @classmethod
    def advise(cls, topic: str, name: str, found: str, cure: str | None) -> "Finding":
        """A finding that is ``advice`` if it has a cure, else ``ok``."""
        return cls("advice" if cure else "ok", topic, name, found, cure)
