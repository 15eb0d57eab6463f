"""What to do with the image of a row, and what became of it."""

import os
from dataclasses import dataclass
from typing import Literal

from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Signature

Done = Literal[
    "done",
    "there",  # the folder already has the image, or another with the same content
    "moved",  # an earlier run or row moved it
    "along",  # it went along with another image, as its companion
    "differs",  # the folder already has it, with a companion of other content
    "shared",  # it is a companion that belongs to several images, and stays
    "uncertain",  # skipped by the options
    "failed",  # skipped by the options, or left to other images of its shot
    "other",  # skipped by the options
    "gone",  # since it was labelled
    "changed",  # since it was labelled
    "back",  # it was moved, and is at its old place again
    "error",
]


@dataclass(frozen=True, slots=True)
class SortResult:
    """What became of an image, its path in the folder, and why it is not there.

    ``companions`` went along with the image: their names, and their paths in the folder.
    """

    path: str
    done: Done
    target: str = ""
    why: str = ""
    companions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file to put into the folder: its path, its signature, its path in the folder."""

    source: str
    signature: Signature
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """To put an image and its companions into the folder.

    Args:
        path: of the image, as its row has it.
        image: the image itself.
        preferred: the target of the image if no other file had it.
        companions: files that go along with the image.
        is_twin: an earlier plan puts the same content there, so that there is nothing to do unless that fails.
        is_there: the folder already has the image, and only companions are missing.
        why: what is wrong with other companions.
    """

    path: str
    image: File
    preferred: str
    companions: tuple[File, ...] = ()
    is_twin: bool = False
    is_there: bool = False
    why: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """The files to put into the folder. The image is last: where it is, its companions are."""
        return self.companions if self.is_there else (*self.companions, self.image)

    def result(self, done: Done, why: str = "") -> SortResult:
        """What became of the image, with its companions if it is in the folder now."""
        went = self.companions if done in ("done", "there", "differs") else ()
        names = tuple((os.path.basename(file.source), file.target) for file in went)
        return SortResult(self.path, done, self.image.target, why, names)


@dataclass(frozen=True, slots=True)
class CompanionRow:
    """A row whose image goes along with the image of another row; if that fails, the row gets a plan of its own."""

    row: Prediction
    source: str


Step = Plan | CompanionRow | SortResult  # what planning a row gives; a result needs no work
