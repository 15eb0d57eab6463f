"""Models of the hub: from the cache, without network, and at one revision."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify import ModelError, UsageError
from dinoclassify.models.open import open_model
from tests.helpers.models import COMMIT, SMALL, put_into_cache, refusal


def test_a_cached_model_starts_without_network(
    hub_cache: Path, checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_cache(hub_cache, checkpoints("dinov2"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    model = open_model("small")
    assert (model.name, model.revision) == (SMALL, COMMIT)
    assert open_model("small", revision=COMMIT).revision == COMMIT
    assert open_model("small", revision="main").load() is not None


def test_a_hub_id_is_never_taken_for_a_folder(
    hub_cache: Path,
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoints("vit"), tmp_path / SMALL)
    assert "is not in the cache" in refusal("small")
    assert caplog.messages == [f"using the hub's {SMALL}; for the folder of that name write ./{SMALL}"]
    assert open_model(f"./{SMALL}").name == f"./{SMALL}"
    put_into_cache(hub_cache, checkpoints("dinov2"))
    assert "dinov2" in str(open_model("small").load())[:40].lower()


def test_an_unreachable_hub_names_offline_alternatives(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = refusal("small")
    assert message.startswith(f"{SMALL} is not in the cache and cannot be fetched (")
    assert "use --model builtin, or --model ./DIR" in message


def test_a_model_that_is_not_cached_is_refused_offline(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match="at revision v2 is not in the cache, and may not be fetched offline"):
        open_model("small", revision="v2", offline=True)


def test_a_half_downloaded_model_is_refused(hub_cache: Path, checkpoints: Callable[[str], Path]) -> None:
    snapshot = put_into_cache(hub_cache, checkpoints("dinov2"))
    (snapshot / "model.safetensors").unlink()
    assert "is not whole in the cache" in refusal("small")


def test_a_revision_needs_a_hub_model(copy: Path) -> None:
    with pytest.raises(UsageError, match="--revision goes with models of the hub"):
        open_model(str(copy), revision="main")
