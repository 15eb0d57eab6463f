"""Names of models, and what is refused: with one line that names the cure."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from dinoclassify import ModelError, UsageError
from dinoclassify.models.checkpoint import read_preprocessing
from dinoclassify.models.names import KNOWN, ModelName, resolve
from dinoclassify.models.open import open_model
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from tests.helpers.checkpoints import LABELS, edit_json

SMALL = KNOWN["small"].hub_id
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def copy(checkpoints: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(checkpoints("dinov2"), tmp_path / "model"))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


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
def test_names(name: str, expected: ModelName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/1/best").mkdir(parents=True)
    assert resolve(name) == expected


@pytest.mark.parametrize("name", ["smal", "my-model", "", "a/b/c"])
def test_names_that_are_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-model").mkdir()
    cure = "for the folder write ./my-model" if name == "my-model" else "a hub id has the form owner/name"
    with pytest.raises(UsageError, match=f"choose small, base, .*, builtin; {cure}"):
        resolve(name)


def test_a_whole_checkpoint(checkpoints: Callable[[str], Path]) -> None:
    model = open_model(str(checkpoints("dinov2")))
    assert model.labels == tuple(LABELS)
    assert (model.revision, model.multi_label) == (None, False)
    module = model.load()
    assert not module.training
    assert next(module.parameters()).dtype == torch.float32


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


def test_a_hub_id_is_not_taken_from_a_folder(
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


def test_an_unreachable_hub_names_what_works_without(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = refusal("small")
    assert message.startswith(f"{SMALL} is not in the cache and cannot be fetched (")
    assert "use --model builtin, or --model ./DIR" in message


def test_offline(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match="at revision v2 is not in the cache, and may not be fetched offline"):
        open_model("small", revision="v2", offline=True)


def test_a_half_downloaded_cache_is_no_model(hub_cache: Path, checkpoints: Callable[[str], Path]) -> None:
    snapshot = put_into_cache(hub_cache, checkpoints("dinov2"))
    (snapshot / "model.safetensors").unlink()
    assert "is not whole in the cache" in refusal("small")


def test_a_missing_head_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "classifier" not in k}, copy / "model.safetensors", {"format": "pt"})
    assert "is not a trained classifier, it lacks classifier.bias, classifier.weight" in refusal(copy)
    assert "choose one of small" in refusal(copy)


def test_a_bare_backbone_is_refused(tmp_path: Path, checkpoints: Callable[[str], Path]) -> None:
    hf.Dinov2Model.from_pretrained(checkpoints("dinov2")).save_pretrained(tmp_path)
    shutil.copy(checkpoints("dinov2") / "preprocessor_config.json", tmp_path)
    assert "is not a trained classifier" in refusal(tmp_path)


def test_labels_that_do_not_fit_the_head_are_refused(copy: Path) -> None:
    edit_json(copy / "config.json", id2label=None, label2id=None)
    assert "do its labels (id2label) and sizes match its weights?" in refusal(copy)
    edit_json(copy / "config.json", id2label={"0": "a", "2": "b"})
    assert "has no label for some classes" in refusal(copy)


def test_pickles_are_never_opened(copy: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path}/opened",)

    (copy / "model.safetensors").unlink()
    torch.save({"classifier.weight": Evil()}, copy / "pytorch_model.bin")
    assert "if its weights are pickled (.bin), which can run code and is never opened, save them" in refusal(copy)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_is_never_run(copy: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    names = {
        "AutoConfig": "evil.Evil",
        "AutoModelForImageClassification": "evil.Evil",
        "AutoImageProcessor": "evil.Evil",
    }
    edit_json(copy / file, auto_map=names, model_type="evil" if file == "config.json" else None)
    monkeypatch.setattr(sys, "stdin", None)
    assert "brings Python code of its own, which is never run" in refusal(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not a JSON object"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors: fetch it again"),
        (lambda folder: os.truncate(folder / "model.safetensors", 9000), "damaged or cut short"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "damaged or cut short"),
        (
            lambda folder: edit_json(folder / "config.json", model_type="bert"),
            "is a bert model, not an image classifier",
        ),
        (lambda folder: edit_json(folder / "config.json", model_type="nonesuch"), "cannot be loaded"),
        (lambda folder: edit_json(folder / "config.json", problem_type="regression"), "gives measurements"),
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": []}'), "does not list"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "does not list the weights"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json is not a JSON object"),
        (lambda folder: edit_json(folder / "config.json", id2label={}), "has no label for some classes"),
        (
            lambda folder: (folder / "processor_config.json").write_text(
                '{"image_processor": {"auto_map": {"A": "b"}}}'
            ),
            "brings Python code of its own",
        ),
    ],
)
def test_damaged_folders(copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(copy)
    refused = refusal(copy)
    assert message in refused
    assert str(copy) in refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": {"shortest_edge": 56}}, 'its crop_size {"shortest_edge": 56} has no height and width'),
        ({"crop_size": {"longest_edge": 224}}, 'its crop_size {"longest_edge": 224} has no height and width'),
        ({"crop_size": {"height": 224}}, "crop_size must have one of the following set of keys"),
        ({"crop_size": "big"}, "Could not convert size input to size dict: big"),
        ({"crop_size": 0}, 'leaves no pixels, with size {"shortest_edge": 64} and crop_size {"height": 0, "width": 0}'),
        ({"crop_size": {"height": "a", "width": 5}}, 'and crop_size {"height": "a", "width": 5} ('),
        ({"size": {"longest_edge": 224}}, 'its image processor fails with size {"longest_edge": 224} and crop_size'),
        (
            {"size": {"height": 64.0, "width": 64.0}},
            'its image processor fails with size {"height": 64.0, "width": 64.0}',
        ),
        ({"size": {"height": 224}}, "size must have one of the following set of keys"),
        ({"size": {}}, "size must have one of the following set of keys"),
        (
            {"size": -1},
            'size {"shortest_edge": -1} and crop_size {"height": 56, "width": 56} (height and width must be',
        ),
        ({"size": [64]}, "list index out of range"),
    ],
)
def test_sizes_that_transformers_cannot_use_are_refused(copy: Path, settings: dict[str, object], message: str) -> None:
    edit_json(copy / "preprocessor_config.json", **settings)
    refused = refusal(copy)
    assert refused.startswith(f"{copy} cannot be loaded: "), refused
    assert message in refused
    assert refused.endswith(": mend its preprocessor_config.json, or take that of its base model")


def test_a_size_that_the_processor_of_a_family_cannot_use_is_named(
    checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints("convnext"), tmp_path / "convnext")
    edit_json(folder / "preprocessor_config.json", size={"longest_edge": 224})
    assert 'its image processor fails with size {"longest_edge": 224}: mend its preprocessor_config' in refusal(folder)


def test_sizes_that_transformers_can_use_are_taken(copy: Path) -> None:
    settings = copy / "preprocessor_config.json"
    edit_json(settings, crop_size={"height": 56.0, "width": 48.0})
    plain = open_model(str(copy)).preprocessing
    assert isinstance(plain, Preprocessing)
    assert json.dumps(plain.crop) == "[56, 48]", "whole numbers"
    edit_json(settings, crop_size={"shortest_edge": 56}, do_center_crop=False)  # which nothing uses
    assert isinstance(open_model(str(copy)).preprocessing, Preprocessing)
    crop = {"crop_size": {"shortest_edge": 64}, "size": {"shortest_edge": 384}, "do_center_crop": True}
    edit_json(settings, image_processor_type="BridgeTowerImageProcessor", **crop)
    assert open_model(str(copy)).preprocessing.output_size == (64, 64), "by its own rule"
    edit_json(settings, image_processor_type="BitImageProcessor", crop_size=56, resample="bicubic")  # not a number
    assert isinstance(open_model(str(copy)).preprocessing, OpaqueProcessor)


def test_a_missing_shard_is_named(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, copy / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert open_model(str(copy)).load() is not None
    (copy / "model-00002-of-00002.safetensors").unlink()
    assert "is not a whole model, it has no model-00002-of-00002.safetensors: fetch it again" in refusal(copy)


def test_a_label_that_is_no_text_is_mended(copy: Path) -> None:
    edit_json(copy / "config.json", id2label={str(n): "\ud83d" if n == 3 else f"label {n}" for n in range(7)})
    assert open_model(str(copy)).labels[3] == "?"


def test_a_multi_label_model(copy: Path) -> None:
    edit_json(copy / "config.json", problem_type="multi_label_classification")
    assert open_model(str(copy)).multi_label


def test_revisions_are_of_the_hub(copy: Path) -> None:
    with pytest.raises(UsageError, match="--revision goes with models of the hub"):
        open_model(str(copy), revision="main")


def test_transformers_stays_quiet_and_as_it_was(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hf.utils.logging.set_verbosity_info()
    try:
        open_model(str(copy)).load()
        assert hf.utils.logging.get_verbosity() == logging.INFO
    finally:
        hf.utils.logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_model_used_before_opens_without_transformers(copy: Path) -> None:
    code = (
        "import sys; from dinoclassify.models.open import open_model; model = open_model(sys.argv[1]); "
        "print(len(model.labels), model.preprocessing.crop, 'transformers' in sys.modules)"
    )

    def run() -> str:
        command = [sys.executable, "-c", code, str(copy)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    edit_json(copy / "preprocessor_config.json", crop_size={"height": 50, "width": 50})
    assert run() == "7 (50, 50) True\n"
    assert run() == "7 (50, 50) False\n"
    edit_json(copy / "preprocessor_config.json", crop_size={"height": 40, "width": 40})
    assert run() == "7 (40, 40) True\n", "other settings are another model"


def test_kept_settings_are_those_that_were_read(checkpoints: Callable[[str], Path]) -> None:
    for family in ("dinov2", "convnext", "efficientnet", "mobilevit"):
        folder = str(checkpoints(family))
        first, second = open_model(folder), open_model(folder)
        assert first.labels == second.labels == tuple(LABELS)
        assert first.multi_label == second.multi_label
        assert type(first.preprocessing) is type(second.preprocessing)
        if family != "mobilevit":
            assert first.preprocessing == second.preprocessing == read_preprocessing(folder, family)
