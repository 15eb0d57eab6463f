"""A head on its base -> a folder that transformers loads as it is: weights, settings, image processor, model card."""

import os
import shutil
from collections.abc import Sequence
from typing import cast

import torch
from transformers import PreTrainedModel

from dinoclassify import builtin
from dinoclassify.catalogue import settings_files
from dinoclassify.checkpoints import silenced
from dinoclassify.errors import ModelError, OutputError, UsageError
from dinoclassify.files import reporting, settle
from dinoclassify.heads import head_of, with_head
from dinoclassify.models import ImageEncoder
from dinoclassify.training import Head


def check_folder(folder: str, *, force: bool) -> None:
    """Find out whether a model may be written to ``folder``, before the work begins.

    Raises:
        UsageError: there is something that may not be replaced.
        OutputError: the folder that it would lie in is not there or may not be written to.
    """
    path = os.path.realpath(folder)
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        raise OutputError(f"cannot write {folder}: there is no folder {above}")
    if not os.access(above, os.W_OK):
        raise OutputError(f"cannot write {folder}: the folder {above} may not be written to")
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path) or (os.listdir(path) and not os.path.isfile(os.path.join(path, "config.json"))):
        raise UsageError(f"{folder} is there, and is not a model: choose another name")
    if os.listdir(path) and not force:
        raise UsageError(f"{folder} is there already: --force replaces it")


def save_classifier(
    folder: str, base: ImageEncoder, head: Head, labels: Sequence[str], card: str, *, multi_label: bool
) -> None:
    """Write a classifier: the base with another head. It appears whole, or an older one stays as it was.

    Args:
        folder: where; a model that is there is replaced.
        base: what the features are made by.
        head: what makes logits of them.
        labels: the names of its classes.
        card: the model card, in Markdown.
        multi_label: each class is a question of its own.

    Raises:
        ModelError: the base cannot take such a head.
        OutputError: the folder cannot be written.
    """
    module = _classifier(base, head, labels, multi_label=multi_label)
    path = os.path.realpath(folder)
    with reporting(folder):
        made = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
        shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
        try:
            os.mkdir(made)
            with silenced():
                module.save_pretrained(made)
            _save_processor(base, made)
            with open(os.path.join(made, "README.md"), "w", encoding="utf-8") as file:
                file.write(card)
            for path_made in (os.path.join(made, name) for name in os.listdir(made)):
                shutil.copymode(os.path.join(made, "README.md"), path_made)  # safetensors keeps others from reading
                settle(path_made)
            _put_folder_in_place(made, path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


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
    """What prepares the pictures is that of the base."""
    if base.folder is None:
        builtin.save_processor(folder)
        return
    for path in settings_files(base.folder):
        if os.path.basename(path) != "config.json":
            shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))


def _put_folder_in_place(made: str, path: str) -> None:
    """Give a folder its name. A folder of that name stays beside it until it has it."""
    settle(made)
    old = f"{made}.old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(path):
        os.rename(path, old)
    try:
        os.rename(made, path)
    except OSError:
        if os.path.lexists(old):
            os.rename(old, path)
        raise
    settle(os.path.dirname(path))
    shutil.rmtree(old, ignore_errors=True)
