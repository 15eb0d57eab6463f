"""A model in the cache of the Hugging Face Hub, as a download leaves it."""

import shutil
from pathlib import Path

from dinoclassify.models.names import KNOWN

SMALL = KNOWN["small"].hub_id
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into_cache(cache: Path, checkpoint: Path, hub_id: str = SMALL) -> Path:
    """Put a checkpoint into a cache of the hub; returns its folder there."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(checkpoint, repository / "snapshots" / COMMIT))
