"""The model card of a trained model: the README.md of its folder."""

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dinoclassify.messages import count_of, printable
from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.models.names import BUILTIN, KNOWN, weights_files
from dinoclassify.storage.paths import shown_path
from dinoclassify.training.head import Trained
from dinoclassify.version import __version__

_DINOV2 = "facebook/dinov2-"  # all are Apache-2.0, by their cards on the Hub
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")  # as the Hub writes them; anything else could be Markdown
_MOST_LISTED = 200  # classes


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The images that a head was trained on: how many of each class, and how many failed with each error code."""

    source: str
    images: int
    counts: Mapping[str, int]
    failed: Mapping[str, int]


def write_card(
    base: ImageEncoder, data: TrainingData, trained: Trained, *, settings: Mapping[str, object], multi_label: bool
) -> str:
    """The model card, in Markdown, with the front matter that the Hub reads.

    ``settings`` are other settings of the training, by name.
    """
    is_hub_id = base.folder is not None and base.revision is not None
    front = {
        "license": licence(base),
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        **({"base_model": base.name} if is_hub_id else {}),
        "tags": ["image-classification", "dinoclassify"],
    }
    kind = "each class is a yes or no of its own" if multi_label else "one class an image"
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in front.items()),
        "---",
        "",
        f"# {count_of(len(data.counts), 'class')} on {_code(base.name)}",
        "",
        f"A linear head on the frozen features of {_code(base.name)}, {_revision(base)}; {kind}.",
        f"Trained by dinoclassify {__version__}; licence of the base model: {licence(base)}.",
        "",
        "```text",
        "dinoclassify predict photos/ --model ./THIS-FOLDER",
        "```",
        "",
        *_data(data),
        "",
        *_held_out(trained),
        "",
        *_settings(trained, settings),
        "",
    ]
    return "\n".join(lines)


def _data(data: TrainingData) -> list[str]:
    left_out = "None had to be left out."
    if data.failed:
        failed = ", ".join(f"{count:,} {code}" for code, count in data.failed.items())
        left_out = f"{sum(data.failed.values()):,} could not be used and were left out ({failed})."
    return [
        "## Data",
        "",
        f"{count_of(data.images, 'image')} of {_code(shown_path(data.source))}. {left_out}",
        "",
        *_table(["class", "images"], [[name, f"{count:,}"] for name, count in _most(data.counts)]),
    ]


def _held_out(trained: Trained) -> list[str]:
    scores = [
        [held.method, f"{held.right / held.judged:.2%}", f"{held.judged:,}", f"{held.f1:.4f}"]
        for held in trained.holdout
    ]
    return [
        "## On images that were held out",
        "",
        "Each was judged by a head that had not seen it, and that was trained like this one.",
        "",
        *_table(["", "right", "of", "mean F1"], scores),
        "",
        "The regularisation was chosen on the same images, so these figures are a little kind to the linear head:",
        "`dinoclassify evaluate` measures it on others.",
        *(["", f"Beware: {trained.warning}."] if trained.warning else []),
    ]


def _settings(trained: Trained, settings: Mapping[str, object]) -> list[str]:
    strengths = sorted(set(trained.strengths))
    chosen = f"{strengths[0]:g}" if len(strengths) == 1 else f"{strengths[0]:g} to {strengths[-1]:g}"
    rows = [["inverse regularisation (C)", chosen], *([name, str(value)] for name, value in settings.items())]
    return ["## Settings", "", *_table(["setting", "value"], rows)]


def licence(base: ImageEncoder) -> str:
    """The licence in the front matter of a model's card; ``unknown`` if that has no single plain name."""
    if base.name.startswith(_DINOV2) or base.name in (known.hub_id for known in KNOWN.values()):
        return "apache-2.0"
    if base.folder is not None:
        with suppress(OSError, UnicodeDecodeError):
            with open(os.path.join(base.folder, "README.md"), encoding="utf-8") as file:
                front = re.match(r"---\n(.*?)\n---", file.read(), flags=re.DOTALL)
            match = re.search(r"^license:\s*(\S+)", front[1], flags=re.MULTILINE) if front else None
            name = match[1].strip("'\"").lower() if match else ""
            return name if _LICENCE.fullmatch(name) else "unknown"
    return "unknown"


def _revision(base: ImageEncoder) -> str:
    if base.name == BUILTIN:
        return f"sha256 {base.revision}"
    return f"commit {base.revision}" if base.revision else f"a folder with weights of sha256 {_weights(base.folder)}"


def _weights(folder: str | None) -> str:
    digests = []
    for path in weights_files(folder) if folder is not None else ():
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return ", ".join(digests)


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    listed = list(counts.items())[:_MOST_LISTED]
    more = list(counts.values())[_MOST_LISTED:]
    return listed + ([(f"{len(more):,} more", sum(more))] if more else [])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _code(text: str) -> str:
    """The text as inline code, on one line: its fence is longer than any run of backticks in the text."""
    shown = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if fence == "`" else f"{fence} {shown} {fence}"


def _cell(text: str) -> str:
    """The text on one line, escaped so that it can be neither HTML nor the end of the cell."""
    return html.escape(printable(text), quote=False).replace("|", "&#124;")
