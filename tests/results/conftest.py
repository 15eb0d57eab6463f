"""Fixtures of the tests of results."""

from pathlib import Path

import pytest

from tests.helpers.invoke import Invoke, invoker


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in this process: (exit code, stdout, stderr)."""
    return invoker(capfd)
