"""Repositories of the Hugging Face Hub -> folders on this machine, from the cache or the network."""

import logging
import os

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dinoclassify.errors import ModelError
from dinoclassify.messages import first_line
from dinoclassify.models.names import MODEL_FILES, find_flaw

log = logging.getLogger(__name__)


def cached_snapshot(hub_id: str, revision: str | None = None) -> str | None:
    """The folder of a repository in the Hub's cache, without the network; None if it is not there."""
    try:
        return snapshot_download(hub_id, revision=revision, allow_patterns=list(MODEL_FILES), local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def snapshot(hub_id: str, revision: str | None, *, offline: bool) -> str:
    """The folder of a repository: from the cache if it is complete there, else downloaded, or a ModelError."""
    elsewhere = "use --model builtin, or --model ./DIR for a folder with a model in it"
    if os.path.isdir(hub_id):
        log.warning("using the hub's %s; for the folder of that name write ./%s", hub_id, hub_id)
        elsewhere = f"write ./{hub_id} for the folder of that name, {elsewhere}"
    folder = cached_snapshot(hub_id, revision)
    if folder is not None and find_flaw(folder) is None:
        return folder
    requested = hub_id if revision is None else f"{hub_id} at revision {revision}"
    lacking = f"{requested} is not {'' if folder is None else 'whole '}in the cache"
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelError(f"{lacking}, and may not be fetched offline: {elsewhere}")
    try:
        return snapshot_download(hub_id, revision=revision, allow_patterns=list(MODEL_FILES))
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub has no {requested}") from error
    except GatedRepoError as error:
        raise ModelError(f"{hub_id} asks for consent: give it on its page of the hub, then set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no {hub_id} that is public; for a private model set HF_TOKEN") from error
    except Exception as error:  # every layer from DNS to the disk raises its own kinds
        reason = first_line(error.__cause__ or error)
        raise ModelError(f"{lacking} and cannot be fetched ({reason}): {elsewhere}") from error
