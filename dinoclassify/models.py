"""A model's name -> an `ImageClassifier`; whatever is not a trained image classifier is refused.

Weights come from safetensors alone, code from transformers alone: nothing in a checkpoint is ever run. A model in the
cache starts without the network, and nothing here ever asks a question.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import transformers
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedConfig
from transformers.utils import logging as hf_logging

from dinoclassify import builtin
from dinoclassify.catalogue import BUILTIN, KNOWN, MODEL_FILES, cached_snapshot, find_flaw, resolve
from dinoclassify.errors import DinoclassifyError, ModelError, UsageError
from dinoclassify.preprocessing import AsIs, Preprocessing
from dinoclassify.processors import read_processor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImageClassifier:
    """A model that names what it sees.

    ``labels`` has one name a class; ``revision`` is the commit of a hub model, the sha256 of the built-in one, None
    for a folder. ``load`` reads the weights: a module in float32, in eval mode, on the CPU, that takes
    ``pixel_values`` (B x 3 x H x W) and gives ``logits`` (B x classes). ``multi_label``: each class is
    a question of its own, answered by a sigmoid.
    """

    name: str
    revision: str | None
    labels: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing | AsIs
    load: Callable[[], nn.Module]


def open_model(name: str, *, revision: str | None = None, offline: bool = False) -> ImageClassifier:
    """Find a model and read all of it but its weights.

    Args:
        name: see `dinoclassify.catalogue.resolve`.
        revision: a commit, tag or branch of a hub model; ``main`` if not given.
        offline: never ask the network. Without it the network is asked for what is not in the cache.

    Raises:
        UsageError: ``name`` is not a name, or ``revision`` is given for a model that has none.
        ModelError: there is no such model, or it is not one that can be used.
    """
    model = resolve(name)
    if model.kind == "hub":
        folder = _snapshot(model.name, revision, offline=offline)
        return _open_folder(folder, model.name, revision=os.path.basename(folder))
    if revision is not None:
        raise UsageError(f"--revision goes with models of the hub; {name} is not one")
    if model.kind == "folder":
        return _open_folder(model.name, model.name, revision=None)
    return ImageClassifier(
        name=BUILTIN,
        revision=builtin.SHA256,
        labels=builtin.imagenet_labels(),
        multi_label=False,
        preprocessing=builtin.PREPROCESSING,
        load=builtin.load,
    )


def _snapshot(hub_id: str, revision: str | None, *, offline: bool) -> str:
    """The folder of a hub model: from the cache if it is all there, else downloaded."""
    elsewhere = "use --model builtin, or --model ./DIR for a folder with a model in it"
    if os.path.isdir(hub_id):
        log.warning("using the hub's %s; for the folder of that name write ./%s", hub_id, hub_id)
        elsewhere = f"write ./{hub_id} for the folder of that name, {elsewhere}"
    folder = cached_snapshot(hub_id, revision)
    if folder is not None and find_flaw(folder) is None:
        return folder
    wanted = hub_id if revision is None else f"{hub_id} at revision {revision}"
    lacking = f"{wanted} is not {'' if folder is None else 'whole '}in the cache"
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelError(f"{lacking}, and may not be fetched offline: {elsewhere}")
    try:
        return snapshot_download(hub_id, revision=revision, allow_patterns=list(MODEL_FILES))
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub has no {wanted}") from error
    except GatedRepoError as error:
        raise ModelError(f"{hub_id} asks for consent: give it on its page of the hub, then set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no {hub_id} that is public; for a private model set HF_TOKEN") from error
    except Exception as error:  # every layer from DNS to the disk has its own
        reason = _first_line(error.__cause__ or error)
        raise ModelError(f"{lacking} and cannot be fetched ({reason}): {elsewhere}") from error


def _open_folder(folder: str, name: str, *, revision: str | None) -> ImageClassifier:
    if not os.path.isdir(folder):
        raise ModelError(f"there is no folder {folder}")
    if flaw := find_flaw(folder):
        raise ModelError(f"{name} {flaw}")
    with _loading(name):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            raise ModelError(f"{name} is a {config.model_type} model, not an image classifier")
        if config.problem_type == "regression":
            raise ModelError(f"{name} gives measurements (problem_type regression), not labels")
        processor = AutoImageProcessor.from_pretrained(
            folder, config=config, backend="pil", local_files_only=True, trust_remote_code=False
        )
        preprocessing = read_processor(processor)
    return ImageClassifier(
        name=name,
        revision=revision,
        labels=_labels(config, name),
        multi_label=config.problem_type == "multi_label_classification" or config.num_labels == 1,
        preprocessing=preprocessing,
        load=partial(_load_weights, folder, name),
    )


def _load_weights(folder: str, name: str) -> nn.Module:
    with _loading(name):
        module, info = AutoModelForImageClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    if wrong := sorted(str(key[0]) for key in info["mismatched_keys"]):
        raise ModelError(
            f"{name} does not fit its config.json, in {wrong[0]}: do its labels (id2label) and sizes match its weights?"
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{name} is not a trained classifier, it lacks {', '.join(missing[:2])}: "
            f"for ImageNet labels choose one of {', '.join(KNOWN)}"
        )
    return cast(nn.Module, module.eval())


def _labels(config: PreTrainedConfig, name: str) -> tuple[str, ...]:
    names = {int(index): str(label) for index, label in (config.id2label or {}).items()}
    if not names or sorted(names) != list(range(len(names))):
        raise ModelError(f"{name} has no label for some classes: mend id2label in its config.json")
    return tuple(names[index].encode("utf-8", "replace").decode("utf-8") for index in range(len(names)))


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Silence transformers, and turn whatever it raises about a checkpoint into one line."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    except DinoclassifyError:
        raise
    except SafetensorError as error:
        raise ModelError(f"the weights of {name} are damaged or cut short ({error}): fetch them again") from error
    except Exception as error:  # as many kinds as checkpoints have ways to be wrong
        raise ModelError(f"{name} cannot be loaded: {_first_line(error)}") from error
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
