"""The file system behind a URL, or the package that is missing for it."""

import importlib
import sys
from pathlib import Path

import pytest

from dinoclassify.errors import UsageError
from dinoclassify.storage.remote import object_store, opening


def test_a_local_path_has_a_file_system(tmp_path: Path) -> None:
    fs, path = opening.filesystem(str(tmp_path))
    assert fs.isdir(path)
    assert path == str(tmp_path)


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("fsspec.registry")  # of which fsspec itself has another
    for package, scheme in (("s3fs", "s3"), ("gcsfs", "gs")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(registry._registry, scheme, raising=False)
    with pytest.raises(UsageError, match=r"^s3://b/: s3:// needs: pip install 'dinoclassify\[cloud\]'$"):
        opening.filesystem("s3://b/")
    with pytest.raises(UsageError, match=r"^gs://b/: gs:// needs an fsspec plug-in: .*gcsfs"):
        object_store.objects("gs://b/")
    with pytest.raises(UsageError, match=r"^nfs4://b/: nfs4:// is not known"):
        object_store.stat_object("nfs4://b/")
