"""The model card of a trained model: the README.md of its folder."""

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dinoclassify.messages import count_of, name_some, printable
from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.models.names import BUILTIN, KNOWN, weights_files
from dinoclassify.storage.paths import shown_path
from dinoclassify.training.advice import warnings_of
from dinoclassify.training.scores import Score
from dinoclassify.training.train import HEAD, Trained
from dinoclassify.version import __version__

_DINOV2 = "facebook/dinov2-"  # all are Apache-2.0, by their cards on the Hub
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")  # as the Hub writes them; anything else could be Markdown
_MOST_LISTED = 200  # classes
_BALANCED = (
    "",
    "The class weight is balanced: the head assumes that all classes are equally frequent or, with many labels an",
    "image, that each label is on half of the images. Scores of classes that are rarer than that are too high, also",
    "with the temperature.",
)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The images that a head was trained on.

    images, counts: how many there are, and how many of each class.
    failed: how many could not be used, by error code.
    rare: the classes that were left out because they have too few images.
    held_out: how many were set apart as a test.
    test: what the test is called; None without one.
    """

    source: str
    images: int
    counts: Mapping[str, int]
    failed: Mapping[str, int] = field(default_factory=dict)
    rare: Sequence[str] = ()
    held_out: int = 0
    test: str | None = None


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
        *_held_out(trained, multi_label=multi_label),
        *_test(trained, data.test, multi_label=multi_label),
        "",
        *_learning_curve(trained),
        "",
        *_settings(trained, settings),
        "",
    ]
    return "\n".join(lines)


def _data(data: TrainingData) -> list[str]:
    sentences = [f"{count_of(data.images, 'image')} of {_code(shown_path(data.source))}."]
    if data.held_out:
        sentences.append(f"{data.held_out:,} more were set apart as a test.")
    if data.failed:
        failed = ", ".join(f"{count:,} {code}" for code, count in data.failed.items())
        sentences.append(f"{sum(data.failed.values()):,} could not be used and were left out ({failed}).")
    if data.rare:
        sentences.append(f"Classes with too few images were left out: {_cell(name_some(data.rare, _MOST_LISTED))}.")
    if not data.failed and not data.rare:
        sentences.append("None had to be left out.")
    return [
        "## Data",
        "",
        " ".join(sentences),
        "",
        *_table(["class", "images"], [[name, f"{count:,}"] for name, count in _most(data.counts)]),
    ]


def _held_out(trained: Trained, *, multi_label: bool) -> list[str]:
    times = f", repeated {trained.repetitions} times" if trained.repetitions > 1 else ""
    how = f"Cross-validation in {trained.folds} folds{times}." if trained.folds > 1 else "A fifth was held out, once."
    return [
        "## On images that were held out",
        "",
        f"{how} Images were judged by heads that had not seen them, and that were trained like this one.",
        "",
        *_scores(trained.scores, multi_label=multi_label),
        "",
        "The intervals are those of this cross-validation (Wilson; copies and groups of images count once). This head",
        "learned from all of the images, and may lie outside. The regularisation was chosen on the same images, so",
        "these figures are a little kind to the linear head: `dinoclassify evaluate` measures it on others.",
        "",
        "The last two columns count the images that only the linear head gets right, and those that only this method",
        "gets right, in the first repetition.",
        *(line for warning in warnings_of(trained) for line in ("", f"Beware: {warning}.")),
    ]


def _test(trained: Trained, name: str | None, *, multi_label: bool) -> list[str]:
    if not trained.test or name is None:
        return []
    said = f"The test is {_code(shown_path(name))}. This head has not seen its images."
    return ["", "## On the images of the test", "", said, "", *_scores(trained.test, multi_label=multi_label)]


def _learning_curve(trained: Trained) -> list[str]:
    rows = [[f"{point.images:,.0f} ({point.share:.0%})", *_figures(point.score)] for point in reversed(trained.curve)]
    return [
        "## Would more images help?",
        "",
        "Heads with the same regularisation, trained on a share of the images of each fold:",
        "",
        *_table(["images", "right", "95 % interval"], rows),
    ]


def _scores(scores: Mapping[str, Score], *, multi_label: bool) -> list[str]:
    right = "answers right" if multi_label else "accuracy"
    head = ["", right, "95 % interval", "images", "mean F1", "only the head", "only this"]
    rows = [
        [
            method,
            *_figures(score),
            f"{score.images:,}",
            f"{score.f1:.4f}",
            *(["", ""] if method == HEAD else [f"{score.head_only:,}", f"{score.this_only:,}"]),
        ]
        for method, score in scores.items()
    ]
    return _table(head, rows)


def _figures(score: Score) -> list[str]:
    low, high = score.interval
    return [f"{score.accuracy:.2%}", f"{low:.2%} to {high:.2%}"]


def _settings(trained: Trained, settings: Mapping[str, object]) -> list[str]:
    before, after = trained.log_losses
    rows = [
        ["inverse regularisation (C)", _range(trained.strengths)],
        ["temperature", _range(trained.temperatures)],
        *([name, str(value)] for name, value in settings.items()),
    ]
    return [
        "## Settings",
        "",
        *_table(["setting", "value"], rows),
        "",
        "The temperature is in the weights. It makes the scores of held-out images, on average, as high as the share",
        "that is right, and changes no label. It is fitted as if one image more were right and one more were wrong, as",
        f"few images prove little. Log loss of held-out images: {before:.4f} before, {after:.4f} with it.",
        *(_BALANCED if settings.get("class weight") == "balanced" else ()),
    ]


def _range(numbers: Sequence[float]) -> str:
    shown = [f"{number:.3g}" for number in (min(numbers), max(numbers))]
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)


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
