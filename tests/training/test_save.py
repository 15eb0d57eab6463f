"""Writing the model: whole or not at all, and never over anything else."""

import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.storage.rename import exchange, replacing_folder
from tests.helpers.invoke import Invoke
from tests.helpers.trained import weights


def test_force_replaces_a_model_and_nothing_else(here: Path, train: Invoke) -> None:
    train("labelled", "-o", "model")
    before = weights("model")
    assert train("labelled", "-o", "model") == (2, "", "dinoclassify: model is there already: --force replaces it\n")
    assert weights("model") == before
    assert train("labelled", "-o", "model", "--force", "-q") == (0, "", "")
    Path("model/src").mkdir()
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err) == (2, "dinoclassify: model holds src beside a model: move that away, or choose another name\n")
    Path("model/src").rmdir()
    Path("empty").mkdir()
    assert train("labelled", "-o", "empty", "-q")[0] == 0
    Path("labelled/config.json").touch()
    for name in ("labelled", "labelled/red", "labelled/new"):
        code, _, err = train("labelled", "-o", name, "--force")
        assert (code, err) == (
            2,
            f"dinoclassify: {name} would lie among the images of labelled: choose another place\n",
        )
    assert len(list(Path("labelled").rglob("*.png"))) == 24
    for name in ("model/README.md", "."):
        code, _, err = train("labelled", "-o", name, "--force")
        assert (code, err) == (2, f"dinoclassify: {name} is there, and is not a model: choose another name\n")
    above = os.path.realpath("no")
    said = f"dinoclassify: cannot write no/model: there is no folder {above}: make it first (mkdir -p)\n"
    assert train("labelled", "-o", "no/model") == (6, "", said)


def test_failed_write_keeps_the_old_model(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    train("labelled", "-o", "model")
    before = {path.name: path.read_bytes() for path in Path("model").iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fail_to_write(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", fail_to_write)
        code, _, err = train("labelled", "-o", "model", "--force", "--seed", "1")
    assert (code, err) == (6, "dinoclassify: cannot write model: I/O error: No space left on device\n")
    for broken in (
        "dinoclassify.training.save._save_processor",
        "dinoclassify.storage.rename.fsync_path",
        "os.rename",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            if broken == "os.rename":  # where two names cannot be exchanged at once
                patch.setattr("dinoclassify.storage.rename.exchange", lambda *_: False)
            code, _, err = train("labelled", "-o", "model", "--force", "--seed", "1")
        assert (code, err) == (6, "dinoclassify: cannot write model: No space left on device\n")
        assert {path.name: path.read_bytes() for path in Path("model").iterdir()} == before
        assert {path.name for path in here.iterdir()} == {"cache", "labelled", "model"}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_model_survives_a_stop_or_kill_at_each_rename(here: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Two names cannot be exchanged at once here: the run is stopped, then killed, before each rename."""
    monkeypatch.setattr("dinoclassify.storage.rename.exchange", lambda *_: False)
    rename = os.rename

    def write(content: str) -> None:
        with replacing_folder("model") as made:
            Path(made, "content").write_text(content)

    class Killed(BaseException):
        pass

    def stop(*names: str) -> None:
        calls.append(names)
        if len(calls) == moment:
            raise Stopped(15)
        rename(*names)

    write("old")
    calls: list[tuple[str, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", stop)
        with pytest.raises(Stopped):
            write("new")
    left = Path("model/content").read_text() if Path("model").exists() else "aside"
    assert left == {1: "old", 2: "old", 3: "new"}[moment]

    def die(*names: str) -> None:
        calls.append(names)
        if len(calls) >= moment:
            raise Killed
        rename(*names)

    calls.clear()
    shutil.rmtree("model")
    shutil.rmtree(".model.dinoclassify.old", ignore_errors=True)
    write("old")
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", die)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            write("new")
    kept = [path.read_text() for path in here.glob("*/content")] + [p.read_text() for p in here.glob(".*/content")]
    assert "old" in kept or Path("model/content").read_text() == "new"
    with pytest.raises(KeyError), replacing_folder("model"):
        raise KeyError
    assert Path("model/content").read_text() == ("new" if moment == 3 else "old")
    write("newest")
    assert set(os.listdir()) - {"cache"} == {"labelled", "model"}
    assert Path("model/content").read_text() == "newest"


def test_unrelated_files_are_left_alone(here: Path, train: Invoke) -> None:
    others = [".model.new/x", ".model.new.old/x", "model.lock"]
    for name in others:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("precious")
    assert train("labelled", "-o", "model")[0] == 0
    assert [Path(name).read_text() for name in others] == ["precious"] * 3


def test_two_names_are_exchanged_at_once(here: Path) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, name).touch()
    if not exchange("one", "two"):
        pytest.skip("this system cannot exchange two names at once")
    assert [os.listdir(name) for name in ("one", "two")] == [["two"], ["one"]]
