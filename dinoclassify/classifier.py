"""The public face: a loaded model that labels images."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Unpack

import numpy as np

from dinoclassify.decoding.batch import Batch
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, group_classes, read_groups
from dinoclassify.labels.label_file import LabelFile
from dinoclassify.loaded_model import Inputs, LoadedModel
from dinoclassify.messages import count_of
from dinoclassify.models.image_model import ImageModel
from dinoclassify.models.names import DEFAULT
from dinoclassify.models.open import open_model
from dinoclassify.pipeline import Scores, classify_with_scores, fold_into_groups
from dinoclassify.types.compute import RequestedPrecision, RuntimeName
from dinoclassify.types.prediction import LIKELY, Prediction
from dinoclassify.types.run_options import RunArguments, RunOptions

_MOST_LABELS = 10  # of a multi-label prediction by default, so that a table has few columns


class Classifier(LoadedModel):
    """An image classifier on a device, ready to label images.

        classifier = Classifier("small")
        for prediction in classifier.predict(["photos/", "more/*.jpg"], top_k=3):
            print(prediction.path, prediction.status, prediction.label, prediction.score)

    Args:
        model: for this and the arguments up to ``compiled`` see `LoadedModel`.
        labels: names to use in place of the model's own, one for each class: a list, or the result of
            `labels.label_file.read_labels`.
        groups: fold the classes into groups: ``everyday``, a CSV file, or the result of `labels.groups.read_groups`.

    Attributes:
        labels: the name of each class, by index; of each group, if there are ``groups``.
        classes: the name of each class, by index.
        group_of: the group of each class, by their indices; None without ``groups``.
        multi_label: the classes do not exclude each other: an image may have many labels, or none.

    Raises:
        UsageError: an argument is wrong.
        ModelError: the model cannot be used, see `models.open.open_model`.
    """

    _has_labels = True

    def __init__(
        self,
        model: str = DEFAULT,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: str = "auto",
        precision: RequestedPrecision = "auto",
        runtime: RuntimeName = "auto",
        compiled: bool = False,
        labels: Sequence[str] | LabelFile | None = None,
        groups: str | Groups | None = None,
    ) -> None:
        if labels is not None and not isinstance(labels, LabelFile):
            labels = LabelFile(tuple(labels), "the list of labels")
        self._own_labels = labels
        self._groups = read_groups(groups) if isinstance(groups, str) else groups
        super().__init__(
            model,
            revision=revision,
            offline=offline,
            device=device,
            precision=precision,
            runtime=runtime,
            compiled=compiled,
        )

    def _open(self, model: str, *, revision: str | None, offline: bool) -> ImageModel:
        opened = open_model(model, revision=revision, offline=offline)
        self.multi_label = opened.multi_label
        own = self._own_labels
        self.classes = own.names if own is not None else opened.labels
        if own is not None and len(own.names) != len(opened.labels):
            numbers = (
                f"has {count_of(len(own.names), 'name')}, {opened.name} has {count_of(len(opened.labels), 'class')}"
            )
            raise UsageError(f"{own.source} {numbers}: give each class one name")
        groups = self._groups
        self.group_of = tuple(group_classes(groups, self.classes, opened.name)) if groups is not None else None
        # without the last group, `other`, if no class is in it
        self.labels = groups.names[: max(self.group_of) + 1] if groups and self.group_of else self.classes
        return opened

    @property
    def default_top_k(self) -> int:
        """How many labels a prediction has at most, if nobody says: 1, and up to 10 of a multi-label model."""
        return min(len(self.labels), _MOST_LABELS) if self.multi_label else 1

    @property
    def default_threshold(self) -> float:
        """The threshold, if nobody says: 0, and 0.5 for a multi-label model."""
        return LIKELY if self.multi_label else 0.0

    def predict(
        self, inputs: Inputs, *, top_k: int | None = None, threshold: float | None = None, **run: Unpack[RunArguments]
    ) -> Iterator[Prediction]:
        """Label images lazily: one prediction for every input, in order, failures included.

        Args:
            inputs: files, folders (walked) and globs, one or many; PIL images and the bytes of encoded ones: an
                image or bytes at ``inputs[3]`` gets the path ``<image 3>``; or the sources that `discover` yields.
            top_k: the number of labels in each prediction, by default 1. For a multi-label model it is the most
                labels, by default up to 10.
            threshold: a best score below it makes the prediction ``uncertain``. By default 0, and 0.5 for a
                multi-label model, whose predictions have no further labels below it; at 0 they have ``top_k``.
            run: see `types.run_options.RunOptions`.

        Raises:
            TypeError: there is no argument of this name.
            UsageError: an argument is wrong.
        """
        options = RunOptions.from_arguments(**run)
        batches = self.decoded(inputs, options)
        return self.classify_batches(batches, top_k=top_k, threshold=threshold, options=options)

    def classify_batches(
        self,
        batches: Iterable[Batch],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        options: RunOptions | None = None,
    ) -> Iterator[Prediction]:
        """Label decoded images, as `predict` does: one prediction for every input of the batches, in order."""
        scored = self.score_batches(batches, top_k=top_k, threshold=threshold, options=options)
        return (prediction for prediction, _ in scored)

    def score_batches(
        self,
        batches: Iterable[Batch],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        options: RunOptions | None = None,
    ) -> Iterator[tuple[Prediction, Scores | None]]:
        """Label decoded images as `classify_batches` does, each with the scores of all labels; None for a failure."""
        top_k = self.default_top_k if top_k is None else top_k
        threshold = self.default_threshold if threshold is None else threshold
        if top_k < 1:
            raise UsageError(f"top_k {top_k}: must be at least 1")
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold {threshold}: must be from 0 to 1, such as 0.4")
        fold = None
        if self.group_of is not None:
            members = np.eye(len(self.labels), dtype=np.float32)[list(self.group_of)]
            fold = partial(fold_into_groups, members=members, multi_label=self.multi_label)
        return classify_with_scores(
            batches,
            self._runtime,
            self.labels,
            top_k=top_k,
            threshold=threshold,
            multi_label=self.multi_label,
            fold=fold,
            options=options,
        )
