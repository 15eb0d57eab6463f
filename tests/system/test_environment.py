"""What a process makes do with: a home, temporary files, processors."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from dinoclassify.storage.cache import folder
from dinoclassify.system.cgroups import CgroupLimits
from dinoclassify.system.environment import NO_HOME, available_cpus, make_do


def test_a_user_without_a_home_gets_a_missing_folder_as_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert folder.cache_root() == Path(NO_HOME, ".cache", "dinoclassify")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_do()
    assert os.environ["HOME"] == NO_HOME
    monkeypatch.undo()


def test_shared_memory_is_used_where_there_is_no_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr("dinoclassify.system.environment.SHARED_MEMORY", str(tmp_path))
    make_do()
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert tempfile.tempdir == str(tmp_path)


def test_a_cgroup_limits_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(96)), raising=False)
    for share, expected in ((None, 96), (16.0, 16), (1.5, 2), (0.25, 1), (128.0, 96)):
        monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda share=share: CgroupLimits(cpus=share))
        assert available_cpus() == expected
