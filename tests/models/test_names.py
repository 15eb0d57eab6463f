"""Names of models: built in, of the hub, or of a folder."""

import os
from pathlib import Path

import pytest

from dinoclassify import UsageError
from dinoclassify.models.names import ModelName, resolve
from tests.helpers.models import SMALL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("builtin", ModelName("builtin", "builtin")),
        ("small", ModelName("hub", SMALL)),
        ("giant-reg", ModelName("hub", "facebook/dinov2-with-registers-giant-imagenet1k-1-layer")),
        ("google/vit-base-patch16-224", ModelName("hub", "google/vit-base-patch16-224")),
        ("./x", ModelName("folder", "./x")),
        ("../x", ModelName("folder", "../x")),
        ("/x/y", ModelName("folder", "/x/y")),
        ("~/x", ModelName("folder", os.path.expanduser("~/x"))),
        ("runs/1/best", ModelName("folder", "runs/1/best")),
        ("runs/1/", ModelName("folder", "runs/1/")),
        ("runs/1", ModelName("hub", "runs/1")),
    ],
)
def test_model_names_are_resolved(
    name: str, expected: ModelName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/1/best").mkdir(parents=True)
    assert resolve(name) == expected


@pytest.mark.parametrize("name", ["smal", "my-model", "", "a/b/c"])
def test_unknown_model_names_are_refused_with_a_cure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-model").mkdir()
    cure = "for the folder write ./my-model" if name == "my-model" else "a hub id has the form owner/name"
    with pytest.raises(UsageError, match=f"choose small, base, .*, builtin; {cure}"):
        resolve(name)
