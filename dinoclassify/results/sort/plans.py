"""What is planned for the image of a row, and what has become of it."""

import os
from dataclasses import dataclass
from typing import Literal

from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Signature

Done = Literal[
    "done",
    "there",
    "moved",
    "along",
    "differs",
    "shared",
    "uncertain",
    "failed",
    "other",
    "gone",
    "changed",
    "back",
    "error",
]


@dataclass(frozen=True, slots=True)
class SortResult:
    """What has become of an image, where it is in the folder, and why not.

    ``done``; ``there``: it was there already, or another with the same content is; ``moved``: an earlier run or row has
    moved it; ``along``: it has gone along with another, as its companion; ``differs``: it is there with a companion of
    other content; ``shared``: it is no image but a companion that several images would have, and stays; ``uncertain``,
    ``failed`` and ``other``: left alone, as the rules have it; ``gone`` and ``changed``, since it was labelled;
    ``back``: at its old place once more, after it was moved; ``error``.

    ``companions`` have gone along with it: their names, and where they are in the folder.
    """

    path: str
    done: Done
    target: str = ""
    why: str = ""
    companions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file that is to be put into the folder: its path, its signature, its path there."""

    source: str
    was: Signature
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An image, by the path of its row and as a file, its companions, and the path in the folder that it should have.

    ``twin``: another with the same content, or itself by another row, is to have that path, and nothing is to be done
    once it has. ``is_there``: it is there, and only companions have to go; ``why``: what is wrong with others.
    """

    path: str
    image: File
    wanted: str
    companions: tuple[File, ...] = ()
    twin: bool = False
    is_there: bool = False
    why: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """What is to be put into the folder, the image last: once it is there, its companions are."""
        return self.companions if self.is_there else (*self.companions, self.image)

    def outcome(self, done: Done, why: str = "") -> SortResult:
        """What has become of the image, and of its companions if it is in the folder now."""
        went = self.companions if done in ("done", "there", "differs") else ()
        names = tuple((os.path.basename(file.source), file.target) for file in went)
        return SortResult(self.path, done, self.image.target, why, names)


@dataclass(frozen=True, slots=True)
class CompanionRow:
    """A row whose image is planned to go along with that of another row; it has a plan of its own if that fails."""

    row: Prediction
    source: str
