"""What a trained model says of itself: the README.md of its folder."""

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dinoclassify.messages import count_of, printable
from dinoclassify.models.names import BUILTIN, KNOWN, weights_files
from dinoclassify.models.open import ImageEncoder
from dinoclassify.storage.paths import shown_path
from dinoclassify.training.head import Trained
from dinoclassify.version import __version__

_DINOV2 = "facebook/dinov2-"  # all are under the Apache License, as their cards on the hub say
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")  # as the hub writes them; anything else could be Markdown
_MOST_LISTED = 200  # classes


@dataclass(frozen=True, slots=True)
class Data:
    """What a head was trained on: images by class, and how many could not be used."""

    source: str
    images: int
    counts: Mapping[str, int]
    failed: Mapping[str, int]


def write_card(
    base: ImageEncoder, data: Data, trained: Trained, *, settings: Mapping[str, object], multi_label: bool
) -> str:
    """The model card, in Markdown, with the front matter that the hub reads.

    Args:
        base: what makes the features.
        data: what the head was trained on.
        trained: how it did on what was held out.
        settings: what else it was trained with, by name.
        multi_label: each class is a question of its own.
    """
    kind = "each class is a yes or no of its own" if multi_label else "one class an image"
    lines = [
        *_front_matter(base),
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


def _front_matter(base: ImageEncoder) -> list[str]:
    front = {
        "license": licence(base),
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        **({"base_model": base.name} if _is_hub_id(base) else {}),
        "tags": ["image-classification", "dinoclassify"],
    }
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---"]


def _data(data: Data) -> list[str]:
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
    return [
        "## On images that were held out",
        "",
        "Each was judged by a head that had not seen it, and that was trained like this one.",
        "",
        *_table(
            ["", "right", "of", "mean F1"],
            [
                [held.method, f"{held.right / held.judged:.2%}", f"{held.judged:,}", f"{held.f1:.4f}"]
                for held in trained.holdout
            ],
        ),
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
    """The licence of a model, as the front matter of its card has it; ``unknown`` where there is no plain name."""
    if base.name.startswith(_DINOV2) or base.name in (known.hub_id for known in KNOWN.values()):
        return "apache-2.0"
    if base.folder is not None:
        with suppress(OSError, UnicodeDecodeError):
            with open(os.path.join(base.folder, "README.md"), encoding="utf-8") as file:
                front = re.match(r"---\n(.*?)\n---", file.read(), flags=re.DOTALL)
            found = re.search(r"^license:\s*(\S+)", front[1], flags=re.MULTILINE) if front else None
            name = found[1].strip("'\"").lower() if found else ""
            return name if _LICENCE.fullmatch(name) else "unknown"
    return "unknown"


def _is_hub_id(base: ImageEncoder) -> bool:
    return base.folder is not None and base.revision is not None


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
    """The text on one line as code: its fence is longer than any run of backticks in it."""
    shown = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if fence == "`" else f"{fence} {shown} {fence}"


def _cell(text: str) -> str:
    """The text on one line, as text rather than HTML or the end of the cell."""
    return html.escape(printable(text), quote=False).replace("|", "&#124;")
