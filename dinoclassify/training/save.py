"""A head and its base -> a folder that transformers can load: weights, settings, image processor, model card."""

import os
import shutil
from collections.abc import Sequence
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from dinoclassify.errors import ModelError, OutputError
from dinoclassify.models import builtin
from dinoclassify.models.checkpoint import silenced
from dinoclassify.models.head import head_of, with_head
from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.models.names import settings_files
from dinoclassify.storage.rename import replacing_folder
from dinoclassify.training.head import Head


def save_classifier(
    folder: str, base: ImageEncoder, head: Head, labels: Sequence[str], card: str, *, multi_label: bool
) -> None:
    """Save the base with a new head as a classifier; ``card`` is its README in Markdown.

    All of the folder, and a model in it, is replaced, or nothing changes.

    Raises:
        ModelError: the base cannot have such a head.
        OutputError: the folder cannot be written.
    """
    module = _classifier(base, head, labels, multi_label=multi_label)
    with replacing_folder(folder) as new_folder:
        try:
            with silenced():
                module.save_pretrained(new_folder)
        except SafetensorError as error:  # a full disk
            raise OutputError(f"cannot write {folder}: {error}") from error
        _save_processor(base, new_folder)
        with open(os.path.join(new_folder, "README.md"), "w", encoding="utf-8") as file:
            file.write(card)
        for name in os.listdir(new_folder):  # safetensors writes files that only their owner can read
            shutil.copymode(os.path.join(new_folder, "README.md"), os.path.join(new_folder, name))


def _classifier(base: ImageEncoder, head: Head, labels: Sequence[str], *, multi_label: bool) -> PreTrainedModel:
    module, name = base.load_with_head()
    if head_of(module, name).bias is None:
        raise ModelError(f"the head of {base.name} has no bias, and so cannot be trained here: choose another model")
    with_head(module, name, torch.from_numpy(head.weight), torch.from_numpy(head.bias))
    config = cast(PreTrainedModel, module).config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
    return cast(PreTrainedModel, module)


def _save_processor(base: ImageEncoder, folder: str) -> None:
    if base.folder is None:
        builtin.save_processor(folder)
        return
    for path in settings_files(base.folder):
        if os.path.basename(path) != "config.json":
            shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))
