"""Fixtures of the tests of `merge`."""

from pathlib import Path

import pytest

from tests.helpers.invoke import Invoke, invoker


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, by the name that keeps those of parts short."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def run_merge(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run `merge` in this process: (exit code, stdout, stderr)."""
    return invoker(capfd, "merge")
