"""Lines of shell from the documentation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import PHOTOS


def run_line(line: str, folder: Path, *, codes: Sequence[int] = (0,)) -> str:
    """Run a line of shell in a folder with images, on the built-in model. Returns stdout. ``codes``: exit codes."""
    for tool in ("jq", "sqlite3"):
        if tool in line.split() and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not (folder / "photos").exists():
        shutil.copytree(PHOTOS, folder / "photos", copy_function=shutil.copy)  # with new times
    if "--files-from labels.parquet" in line:
        import pandas as pd

        pd.DataFrame({"path": ["photos/coffee.jpg"]}).to_parquet(folder / "labels.parquet")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DINOCLASSIFY_PREDICT_MODEL": "builtin",
        "DINOCLASSIFY_PREDICT_EXCLUDE": "*.md",
    }
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,  # a bench takes a minute and a half on 2 idle cores
    )
    assert done.returncode in codes, done.stderr
    assert all(text.startswith("dinoclassify: ") for text in done.stderr.splitlines())
    return done.stdout
