"""A hub cache with a model in it, and the message of a model that is refused."""

import shutil
from pathlib import Path

import pytest

from dinoclassify import ModelError
from dinoclassify.models.names import KNOWN
from dinoclassify.models.open import open_model

SMALL = KNOWN["small"].hub_id
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into_cache(cache: Path, checkpoint: Path, hub_id: str = SMALL) -> Path:
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(checkpoint, repository / "snapshots" / COMMIT))


def refusal(name: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(str(name)).load()
    message = str(caught.value)
    assert "\n" not in message
    return message
