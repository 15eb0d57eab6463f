"""`dinoclassify train`."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dinoclassify.cli import learning_options, options
from dinoclassify.cli.checks import warn_of_image, warn_of_rest
from dinoclassify.cli.labelled import Truth, read_test, read_truth
from dinoclassify.cli.option_groups import (
    InferenceOptions,
    Messages,
    ModelOptions,
    TrainingOptions,
    TruthOptions,
    expand_groups,
)
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.summary import summarize
from dinoclassify.cli.terminal import say, set_up_log
from dinoclassify.errors import UsageError
from dinoclassify.labels.matching import match_classes
from dinoclassify.messages import count_of
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.training.classes import check_readable, common_classes, with_classes
from dinoclassify.types.run_options import RunOptions
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.discovery.labelled import Labelled
    from dinoclassify.encoder import Encoder
    from dinoclassify.training.dataset import Images, Split
    from dinoclassify.training.model_card import TrainingData
    from dinoclassify.training.train import Trained
    from dinoclassify.types.embedding import Embedding

log = logging.getLogger("dinoclassify")

_GO_ON = "; their features are kept, the same command goes on"


@expand_groups
def train(
    *,
    truth: TruthOptions,
    group_column: learning_options.GroupColumn = None,
    model: ModelOptions,
    inference: InferenceOptions,
    training: TrainingOptions,
    output: learning_options.ModelFolder,
    force: learning_options.Force = False,
    wait: options.Wait = False,
    messages: Messages,
) -> None:
    """Train a classifier for your own classes.

    Embeds the labelled images once, and trains a linear head on their features. Writes a model folder
    for `predict -m ./DIR` and for transformers. Prints the accuracy on held-out images beside simple baselines,
    and whether more images are likely to help.

    Examples:
      dinoclassify train labelled/ -o my-model/
      dinoclassify train labelled/ --test test/ -o my-model/
      dinoclassify predict new/ -m ./my-model -o labels.csv
    """
    set_up_log(messages)
    _check_test(training)
    from dinoclassify.storage.lock import locked
    from dinoclassify.training.model_folder import check_model_folder

    image_folder = truth.folder if truth.labels_from is None else None
    check_folder = partial(check_model_folder, output, force=force, images=image_folder)
    check_folder()
    labelled, common, tested = _read(truth, training, group_column)
    with locked(output.rstrip("/"), wait=wait):
        check_folder()  # again: another run may have written it
        check_addresses()
        from dinoclassify.cli import training_tables
        from dinoclassify.encoder import Encoder

        encoder = Encoder(model.model, **model.arguments())
        log_model(encoder.info)
        tally = Tally(None)
        images = [*labelled.images, *(tested.images if tested is not None else ())]
        embeddings = _embed(encoder, images, inference, messages, tally)
        embedded = summarize(tally)
        split = _prepare(labelled, common, tested, embeddings, training, multi_label=truth.multi_label)
        trained = _train(split, training, multi_label=truth.multi_label)
        test_name = training.test or (f"{training.holdout:.3g} of {labelled.source}" if training.holdout else None)
        data = _describe(labelled, embeddings, split, test_name)
        settings = {
            "class weight": training.class_weight,
            "fewest images of a class": training.min_images,
            **({"groups": group_column} if group_column is not None else {}),
            "seed": training.seed,
            "features": encoder.precision,
        }
        _save(output, encoder, split, trained, data, settings, multi_label=truth.multi_label)
    if not messages.quiet:
        training_tables.show(trained, test_name, multi_label=truth.multi_label)
        trained_on = f"trained on {count_of(data.images, 'image')} of {count_of(len(split.counts), 'class')}"
        say(f"{embedded}; {trained_on} -> {output}")


def _check_test(training: TrainingOptions) -> None:
    if training.test is not None and training.holdout is not None:
        raise UsageError("--test and --holdout exclude each other: leave one out")
    if training.holdout is not None and not 0 < training.holdout < 1:
        raise UsageError(f"--holdout {training.holdout:g}: choose a share between 0 and 1, such as 0.2 or 20%")


def _read(
    truth: TruthOptions, training: TrainingOptions, group_column: str | None
) -> tuple[Truth, tuple[str, ...], Truth | None]:
    """Return the images to train on, with all classes; the classes of enough images; and the images of ``--test``."""
    labelled = read_truth(truth, group_column=group_column)
    common = common_classes(labelled.images, labelled.classes, training.min_images, multi_label=truth.multi_label)
    images = with_classes(labelled.images, set(common), multi_label=truth.multi_label)
    if training.test is None:
        return Truth(images, labelled.classes, labelled.source), common, None
    tested = read_test(training.test, truth, group_column=group_column)
    known = match_classes(tested.classes, labelled.classes, labelled.source)
    judged = [
        replace(image, labels=tuple(labelled.classes[known[label]] for label in image.labels))
        for image in tested.images
    ]
    return Truth(images, labelled.classes, labelled.source), common, Truth(judged, labelled.classes, tested.source)


def _embed(
    encoder: "Encoder", images: "Sequence[Labelled]", inference: InferenceOptions, messages: Messages, tally: Tally
) -> "list[Embedding]":
    """Return the embeddings of the images, in order, failures included."""
    from dinoclassify.training.feature_cache import embed_once

    results: dict[int, Embedding] = {}
    stages = StageTimer()

    def embeddings(run: RunOptions) -> "Iterator[Embedding]":
        """Yield the embeddings as they come, and note them."""
        paths = [image.path for image in images]
        for number, embedding, is_kept in embed_once(encoder, paths, run):
            if is_kept:
                tally.keep(embedding.status, None)
            else:
                tally.add(embedding)
            results[number] = embedding
            yield embedding

    with report_interruption(tally, lambda: _GO_ON) as stop, stages.measure("write"):
        run = inference.run_options(stages, stop)
        for embedding in with_progress(embeddings(run), messages, total=lambda: len(images)):
            if embedding.failure is not None:
                warn_of_image(f"{embedding.path} is left out: {embedding.failure.message}", tally.statuses["failed"])
    warn_of_rest(tally.statuses["failed"], gone=0, rows=0)
    if tally.made:
        log_stages(run, encoder)
    return [results[number] for number in range(len(images))]


def _prepare(
    labelled: Truth,
    common: Sequence[str],
    tested: Truth | None,
    embeddings: "Sequence[Embedding]",
    training: TrainingOptions,
    *,
    multi_label: bool,
) -> "Split":
    """Return what to train and to test on; ``embeddings`` has the labelled images, followed by those of the test."""
    from dinoclassify.training.dataset import prepare

    count = len(labelled.images)
    readable = _readable(labelled.images, embeddings[:count])
    check_readable(labelled.images, readable.labelled)
    return prepare(
        readable,
        common,
        test=_readable(tested.images, embeddings[count:]) if tested is not None else None,
        holdout=training.holdout,
        least=training.min_images,
        multi_label=multi_label,
        seed=training.seed,
    )


def _readable(images: "Sequence[Labelled]", embeddings: "Sequence[Embedding]") -> "Images":
    """Return the images that could be read, with their features."""
    import numpy as np

    from dinoclassify.training.dataset import Images

    pairs = [
        (image, embedding, embedding.features)
        for image, embedding in zip(images, embeddings, strict=True)
        if embedding.features is not None
    ]
    features = np.array([row for _, _, row in pairs], np.float32)
    return Images([image for image, _, _ in pairs], features, [embedding.size for _, embedding, _ in pairs])


def _train(split: "Split", training: TrainingOptions, *, multi_label: bool) -> "Trained":
    from dinoclassify.training.train import train_head

    started = time.monotonic()
    trained = train_head(
        split.train,
        list(split.counts),
        test=split.test,
        multi_label=multi_label,
        class_weight=training.class_weight,
        seed=training.seed,
    )
    log.info("trained on %s x %s features in %.1f s", *split.train.features.shape, time.monotonic() - started)
    return trained


def _describe(labelled: Truth, embeddings: "Sequence[Embedding]", split: "Split", test: str | None) -> "TrainingData":
    """Return what the card says of the images."""
    from dinoclassify.training.model_card import TrainingData

    failures = [each.failure for each in embeddings[: len(labelled.images)]]
    return TrainingData(
        labelled.source,
        len(split.train.labels),
        split.counts,
        Counter(failure.code for failure in failures if failure is not None),
        [label for label in labelled.classes if label not in split.counts],
        split.held_out,
        test,
    )


def _save(
    output: str,
    encoder: "Encoder",
    split: "Split",
    trained: "Trained",
    data: "TrainingData",
    settings: "Mapping[str, object]",
    *,
    multi_label: bool,
) -> None:
    from dinoclassify.training.model_card import write_card
    from dinoclassify.training.save import save_classifier

    card = write_card(encoder.base, data, trained, settings=settings, multi_label=multi_label)
    save_classifier(output, encoder.base, trained.head, list(split.counts), card, multi_label=multi_label)
