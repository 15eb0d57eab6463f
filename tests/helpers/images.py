"""Files that pass for images."""

import os
from pathlib import Path


def image(path: str, content: str | bytes | None = None) -> str:
    """A file that passes for an image: sort looks into none."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    given = content if content is not None else path
    Path(path).write_bytes(given if isinstance(given, bytes) else os.fsencode(given))
    return path
