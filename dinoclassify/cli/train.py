"""`dinoclassify train`."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dinoclassify.cli import options
from dinoclassify.cli.progress import log_model, log_stages, told_if_stopped, with_progress
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import print_table, say, set_up_log
from dinoclassify.cli.truth import read_truth
from dinoclassify.discover import Source
from dinoclassify.errors import UsageError, name_some
from dinoclassify.rows import shown_path
from dinoclassify.stages import Stages
from dinoclassify.statistics import wilson

if TYPE_CHECKING:
    from dinoclassify.embeddings import Embedding
    from dinoclassify.encoder import Encoder
    from dinoclassify.labelled import Labelled
    from dinoclassify.training import Features, Held, Trained

log = logging.getLogger("dinoclassify")

_GO_ON = "; their features are kept, the same command goes on"

LEAST = 2  # pictures of a class: one to learn from, one to judge by


@options.grouped
def train(
    *,
    truth: options.TruthOptions,
    model: options.ModelOptions,
    passing: options.Passing,
    class_weight: options.ClassWeight = "balanced",
    seed: options.Seed = 0,
    output: options.ModelFolder,
    force: options.Force = False,
    wait: options.Wait = False,
    messages: options.Messages,
) -> None:
    """Train a classifier of your own.

    Embeds labelled pictures, once, and trains a linear head on their features, on the CPU and in seconds. The result
    is a folder that `predict --model ./DIR` and transformers take. Prints how the head does on pictures that were held
    out, and how the nearest class mean and the nearest neighbours do.
    """
    set_up_log(messages)
    from dinoclassify.locks import locked
    from dinoclassify.saving import check_folder, save_classifier

    check_folder(output, force=force)
    known = read_truth(truth)
    classes = known.classes
    _check_classes(classes, known.pictures, many=truth.multi_label)
    with locked(output.rstrip("/"), wait=wait):
        check_folder(output, force=force)  # another run may have written it
        from dinoclassify.encoder import Encoder
        from dinoclassify.model_card import Data, write_card

        encoder = Encoder(model.model, **model.arguments())
        log_model(encoder)
        tally = Tally(None)
        features, pictures = _embed(encoder, known.pictures, passing, messages, tally)
        embedded = tally.summary()
        counts = _check_classes(classes, pictures, many=truth.multi_label)
        trained = _train(features, pictures, classes, class_weight, seed, many=truth.multi_label)
        card = write_card(
            encoder.base,
            Data(known.source, len(pictures), counts, tally.errors),
            trained,
            settings={"class weight": class_weight, "seed": seed, "features": encoder.precision},
            multi_label=truth.multi_label,
        )
        save_classifier(output, encoder.base, trained.head, classes, card, multi_label=truth.multi_label)
    if not messages.quiet:
        print_table([_line(held) for held in trained.held], as_json=False)
        say(f"{embedded}; {len(classes):,} classes -> {output}")


def _embed(
    encoder: "Encoder",
    pictures: "Sequence[Labelled]",
    passing: options.Passing,
    messages: options.Messages,
    tally: Tally,
) -> "tuple[Features, list[Labelled]]":
    """The features of those pictures that can be read, and those pictures."""
    import numpy as np

    from dinoclassify.feature_cache import embed_once

    features = np.empty((len(pictures), encoder.width), np.float32)
    usable = np.zeros(len(pictures), bool)
    stages = Stages()

    def embeddings(stop: Callable[[], bool]) -> "Iterator[Embedding]":
        paths = [picture.path for picture in pictures]
        for number, embedding, kept in embed_once(encoder, paths, passing.arguments(stages, stop)):
            if kept:
                tally.keep(embedding.status, None)
            else:
                tally.add(embedding)
            if embedding.features is not None:
                features[number], usable[number] = embedding.features, True
            yield embedding

    with told_if_stopped(tally, lambda: _GO_ON) as stop, stages.charge("write"):
        look = partial(map, Source, [picture.path for picture in pictures])
        for embedding in with_progress(embeddings(stop), tally, messages, look):
            if embedding.failure is not None:
                log.warning("%s is left out: %s", embedding.path, embedding.failure.message)
    if tally.made:
        log_stages(stages, encoder, exact=passing.exact)
    return features[usable], [picture for picture, good in zip(pictures, usable, strict=True) if good]


def _check_classes(classes: Sequence[str], pictures: "Sequence[Labelled]", *, many: bool) -> Mapping[str, int]:
    """How many pictures each class has.

    Raises:
        UsageError: there is nothing to tell apart, or too little to learn a class from.
    """
    found = Counter(label for picture in pictures for label in picture.labels)
    counts = {label: found[label] for label in classes}
    if few := [f"{shown_path(label)} ({count})" for label, count in counts.items() if count < LEAST]:
        raise UsageError(
            f"each class needs {LEAST} pictures that can be read, too few has {name_some(few)}: add some or drop it"
        )
    if not many and len(classes) < 2:
        raise UsageError(f"all pictures are of one class, {shown_path(classes[0])}: training needs two or more")
    if everywhere := [shown_path(label) for label in classes if many and len(pictures) - counts[label] < LEAST]:
        raise UsageError(f"{LEAST} pictures must be without the label {everywhere[0]}: add some or leave it out")
    return counts


def _train(
    features: "Features",
    pictures: "Sequence[Labelled]",
    classes: Sequence[str],
    class_weight: options.ClassWeight,
    seed: int,
    *,
    many: bool,
) -> "Trained":
    import numpy as np

    from dinoclassify.training import train_multi, train_single

    started = time.monotonic()
    number = {label: index for index, label in enumerate(classes)}
    if many:
        marks = np.array([[label in picture.labels for label in classes] for picture in pictures])
        trained = train_multi(features, marks, class_weight=class_weight, seed=seed)
    else:
        of_each = np.array([number[picture.labels[0]] for picture in pictures])
        trained = train_single(features, of_each, class_weight=class_weight, seed=seed)
    log.info("trained on %s x %s features in %.1f s", *features.shape, time.monotonic() - started)
    return trained


def _line(held: "Held") -> dict[str, object]:
    low, high = wilson(held.right, held.judged)
    return {
        "held out": held.method,
        "accuracy": f"{held.right / held.judged:.4f}",
        "95 %": f"{low:.4f} to {high:.4f}",
        "mean F1": f"{held.f1:.4f}",
    }
