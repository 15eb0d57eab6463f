"""A folder with a checkpoint -> its labels, preprocessing and weights, through transformers.

Importing this module takes seconds, so callers import it as late as they can.

Weights come only from safetensors, code only from transformers: nothing in a checkpoint is ever run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedConfig
from transformers.utils import logging as hf_logging

from dinoclassify.errors import DinoclassifyError, ModelError
from dinoclassify.messages import first_line
from dinoclassify.models.head import find_head
from dinoclassify.models.image_processor import CURE, read_processor
from dinoclassify.models.names import KNOWN
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing, Size


def check_family(folder: str, name: str) -> None:
    """Raise ModelError if transformers has no image classifier for this family of models."""
    with _loading(name):
        _read_classifier_config(folder, name)


def read_labels(folder: str, name: str) -> tuple[tuple[str, ...], bool]:
    """The names of the classes, by index, and whether the model is multi-label: its classes do not exclude each other.

    Raises ModelError if this is no image classifier, or lacks some names.
    """
    with _loading(name):
        config = _read_classifier_config(folder, name)
        if config.problem_type == "regression":
            raise ModelError(f"{name} gives measurements (problem_type regression), not labels: choose another --model")
        names = {int(index): str(label) for index, label in (config.id2label or {}).items()}
        if not names or sorted(names) != list(range(len(names))):
            raise ModelError(f"{name} has no label for some classes: mend id2label in its config.json")
        filled = [names[index] if names[index].strip() else f"LABEL_{index}" for index in range(len(names))]
        labels = tuple(label.encode("utf-8", "replace").decode("utf-8") for label in filled)
        return labels, config.problem_type == "multi_label_classification" or config.num_labels == 1


def read_preprocessing(folder: str, name: str) -> Preprocessing | OpaqueProcessor:
    """The preprocessing of the checkpoint; raises ModelError if its image processor cannot be used."""
    with _loading(name, cure=f": {CURE}"):
        processor = AutoImageProcessor.from_pretrained(
            folder, config=_read_config(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    with _loading(name):
        return read_processor(processor)


def load_weights(folder: str, name: str) -> nn.Module:
    """The model, in float32, in eval mode and on the CPU; raises ModelError without whole and trained weights."""
    module, info = _load(folder, name)
    if unfit := sorted(str(key[0]) for key in info["mismatched_keys"]):
        raise ModelError(
            f"{name} does not fit its config.json, in {unfit[0]}: do its labels (id2label) and sizes match its weights?"
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{name} is not a trained classifier, it lacks {', '.join(missing[:2])}: "
            f"for ImageNet labels choose one of {', '.join(KNOWN)}"
        )
    return module


def load_encoder(folder: str, name: str, size: Size) -> tuple[nn.Module, str]:
    """A classifier, whose head may be untrained, and the name of its head.

    The module is in float32, in eval mode and on the CPU; ``size`` is the height and width of its images. Raises
    ModelError if the weights cannot be read or do not fit, or the head is not one linear layer.
    """
    module, info = _load(folder, name)
    with _loading(name):
        head = find_head(module, name, size)
    missing = sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])})
    if missing := [key for key in missing if not key.startswith(f"{head}.")]:
        raise ModelError(f"{name} is not a whole model, its weights lack {', '.join(missing[:2])}: fetch it again")
    return module, head


def _load(folder: str, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The module, and what transformers reports about its weights."""
    with _loading(name):
        module, info = AutoModelForImageClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # the caller refuses them, by name
            output_loading_info=True,
        )
    return module.eval(), info


def _read_classifier_config(folder: str, name: str) -> PreTrainedConfig:
    config = _read_config(folder)
    if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ModelError(f"{name} is a {config.model_type} model, not an image classifier: choose another --model")
    return config


def _read_config(folder: str) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return cast(PreTrainedConfig, config)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep transformers from printing anything in the block."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def _loading(name: str, *, cure: str = "") -> Iterator[None]:
    """Turn whatever transformers raises about a checkpoint into one line."""
    try:
        with silenced():
            yield
    except DinoclassifyError:
        raise
    except SafetensorError as error:
        raise ModelError(f"the weights of {name} are damaged or cut short ({error}): fetch them again") from error
    except Exception as error:  # transformers raises many kinds for a broken checkpoint
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}{cure}") from error
