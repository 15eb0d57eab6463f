"""`dinoclassify train`."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dinoclassify.cli import options
from dinoclassify.cli.labelled import read_truth
from dinoclassify.cli.option_groups import InferenceOptions, Messages, ModelOptions, TruthOptions, expand_groups
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.summary import summarize
from dinoclassify.cli.terminal import print_table, say, set_up_log
from dinoclassify.discovery.labelled import count_classes
from dinoclassify.messages import count_of
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.types.run_options import RunOptions
from dinoclassify.types.share import wilson
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.discovery.labelled import Labelled
    from dinoclassify.encoder import Encoder
    from dinoclassify.training.head import Features, HoldoutScore, Trained
    from dinoclassify.types.embedding import Embedding

log = logging.getLogger("dinoclassify")

_GO_ON = "; their features are kept, the same command goes on"


@expand_groups
def train(
    *,
    truth: TruthOptions,
    model: ModelOptions,
    inference: InferenceOptions,
    class_weight: options.ClassWeight = "balanced",
    seed: options.Seed = 0,
    output: options.ModelFolder,
    force: options.Force = False,
    wait: options.Wait = False,
    messages: Messages,
) -> None:
    """Train a classifier for your own classes.

    Embeds the labelled images once, and trains a linear head on their features. Writes a model folder
    for `predict -m ./DIR` and for transformers. Prints the accuracy on held-out images, beside two simple
    baselines.

    Examples:
      dinoclassify train labelled/ -o my-model/
      dinoclassify predict new/ -m ./my-model -o labels.csv
    """
    set_up_log(messages)
    from dinoclassify.storage.lock import locked
    from dinoclassify.training.model_folder import check_model_folder

    image_folder = truth.folder if truth.labels_from is None else None
    check_folder = partial(check_model_folder, output, force=force, images=image_folder)
    check_folder()
    labelled = read_truth(truth)
    classes, multi_label = labelled.classes, truth.multi_label
    count_classes(labelled.images, classes, multi_label=multi_label)
    with locked(output.rstrip("/"), wait=wait):
        check_folder()  # again: another run may have written it
        check_addresses()
        from dinoclassify.encoder import Encoder
        from dinoclassify.training.head import train_head
        from dinoclassify.training.model_card import TrainingData, write_card
        from dinoclassify.training.save import save_classifier

        encoder = Encoder(model.model, **model.arguments())
        log_model(encoder.info)
        tally = Tally(None)
        features, images = _embed(encoder, labelled.images, inference, messages, tally)
        embedded = summarize(tally)
        counts = count_classes(images, classes, multi_label=multi_label)
        labels, started = [image.labels for image in images], time.monotonic()
        trained = train_head(features, labels, classes, multi_label=multi_label, class_weight=class_weight, seed=seed)
        log.info("trained on %s x %s features in %.1f s", *features.shape, time.monotonic() - started)
        card = write_card(
            encoder.base,
            TrainingData(labelled.source, len(images), counts, tally.errors),
            trained,
            settings={"class weight": class_weight, "seed": seed, "features": encoder.precision},
            multi_label=multi_label,
        )
        save_classifier(output, encoder.base, trained.head, classes, card, multi_label=multi_label)
    if not messages.quiet:
        _print_scores(trained)
        say(f"{embedded}; {count_of(len(classes), 'class')} -> {output}")


def _print_scores(trained: "Trained") -> None:
    """Print the scores on held-out images, and advice if the head is not the best."""
    print_table([_score_line(score) for score in trained.holdout], as_json=False)
    if trained.warning:
        say(trained.warning)


def _embed(
    encoder: "Encoder", images: "Sequence[Labelled]", inference: InferenceOptions, messages: Messages, tally: Tally
) -> "tuple[Features, list[Labelled]]":
    """Return the features of the images that can be read, and these images."""
    import numpy as np

    from dinoclassify.training.feature_cache import embed_once

    features = np.empty((len(images), encoder.width), np.float32)
    usable = np.zeros(len(images), bool)
    stages = StageTimer()

    def embeddings(run: RunOptions) -> "Iterator[Embedding]":
        """Yield the features in the order of the images, and note them."""
        paths = [image.path for image in images]
        for number, embedding, is_kept in embed_once(encoder, paths, run):
            if is_kept:
                tally.keep(embedding.status, None)
            else:
                tally.add(embedding)
            if embedding.features is not None:
                features[number], usable[number] = embedding.features, True
            yield embedding

    with report_interruption(tally, lambda: _GO_ON) as stop, stages.measure("write"):
        run = inference.run_options(stages, stop)
        for embedding in with_progress(embeddings(run), messages, total=lambda: len(images)):
            if embedding.failure is not None:
                log.warning("%s is left out: %s", embedding.path, embedding.failure.message)
    if tally.made:
        log_stages(run, encoder)
    return features[usable], [image for image, is_usable in zip(images, usable, strict=True) if is_usable]


def _score_line(score: "HoldoutScore") -> dict[str, object]:
    low, high = wilson(score.right, score.judged)
    return {
        "held out": score.method,
        "accuracy": f"{score.right / score.judged:.4f}",
        "95 %": f"{low:.4f} to {high:.4f}",
        "mean F1": f"{score.f1:.4f}",
    }
