"""The command `embed`: its formats, its updates, and what it refuses."""

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch

from dinoclassify import Encoder
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure
from dinoclassify.writers.formats.features import open_features
from tests.conftest import PHOTOS, Cli
from tests.helpers.crash import ended_by
from tests.helpers.invoke import InvokeForMessages, message_invoker

Matrix = npt.NDArray[np.floating[Any]]
FILES = ["out.parquet", "out.npz", "out.npy"]
NAMES = ["camera.jpg", "chelsea.jpg", "coffee.jpg", "motorcycle_left.jpg", "rocket.jpg", "text.png"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/text.png").write_text("not an image")
    return tmp_path


@pytest.fixture
def embed(tiny: str, capfd: pytest.CaptureFixture[str]) -> InvokeForMessages:
    """Run the command in this process: (exit code, stderr)."""
    return message_invoker(capfd, "embed", "-m", tiny, "--runtime", "torch")


def load(name: str) -> tuple[Matrix, list[str], list[str]]:
    """The features (NaN where there are none), paths and error codes of a file, as other programs read it."""
    if name.endswith(".npz"):
        with np.load(name) as archive:
            return archive["features"], archive["path"].tolist(), archive["error_code"].tolist()
    if name.endswith(".npy"):
        with open(name, "rb") as file:
            matrix, paths, _, codes = (np.load(file) for _ in range(4))
        assert np.array_equal(np.load(name, mmap_mode="r"), matrix, equal_nan=True)
        return matrix, paths.tolist(), codes.tolist()
    table = pq.read_table(name).to_pydict()
    width = len(next(filter(None, table["features"])))
    dtype = pq.read_schema(name).field("features").type.value_type.to_pandas_dtype()
    matrix = np.array([row or [np.nan] * width for row in table["features"]], dtype)
    return matrix, table["path"], [code or "" for code in table["error_code"]]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_every_format_has_one_row_for_each_input(
    here: Path, tiny: str, embed: InvokeForMessages, name: str, dtype: str
) -> None:
    code, err = embed("photos", "-o", name, "--dtype", dtype)
    assert code == 3
    assert "6 images: 5 ok, 1 failed (1 not_image)" in err
    assert f"-> {name}" in err
    matrix, paths, codes = load(name)
    assert matrix.dtype == {"fp32": np.float32, "fp16": np.float16}[dtype]
    assert paths == [f"photos/{image}" for image in NAMES]
    assert codes == ["", "", "", "", "", "not_image"]
    assert np.isnan(matrix[5]).all()
    expected = Encoder(tiny, runtime="torch").embed(["photos"], dtype="fp16" if dtype == "fp16" else "fp32")
    for row, embedding in zip(matrix[:5], expected, strict=False):
        assert embedding.features is not None
        assert np.array_equal(row, embedding.features)
    meta = json.loads(Path(f"{name}.meta.json").read_text())
    assert meta["model"]["features"] == matrix.shape[1] == 64
    assert meta["counts"] == {"ok": 5, "uncertain": 0, "failed": 1}


def test_normalized_features_have_length_1(here: Path, embed: InvokeForMessages) -> None:
    embed("photos", "-o", "out.npy", "--normalize")
    assert np.linalg.norm(np.load("out.npy")[:5], axis=1) == pytest.approx([1] * 5, abs=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_resume_keeps_the_features_of_a_file(here: Path, embed: InvokeForMessages, name: str) -> None:
    embed("photos/coffee.jpg", "photos/text.png", "-o", name)
    before = load(name)
    code, err = embed("photos", "-o", name, "--resume")
    assert code == 3
    assert "; 2 kept, 4 new" in err
    matrix, paths, _ = load(name)
    assert paths == [f"photos/{image}" for image in NAMES]
    assert np.array_equal(matrix[[2, 5]], before[0], equal_nan=True)
    embed("photos", "-o", f"whole-{name}")
    assert matrix == pytest.approx(load(f"whole-{name}")[0], abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--dtype", "fp16"], "with --dtype fp32, not fp16: use --dtype fp32, name another -o, or "),
        (["--normalize"], "without --normalize: leave out --normalize, name another -o, or "),
        (["--exact"], "without --exact: leave out --exact, name another -o, or "),
    ],
)
def test_features_made_with_other_options_are_refused(
    here: Path, embed: InvokeForMessages, name: str, arguments: list[str], why: str
) -> None:
    embed("photos/coffee.jpg", "-o", name)
    code, err = embed("photos", "-o", name, "--resume", *arguments)
    assert code == 2
    assert f"{name} was made {why}" in err


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_features_is_refused(here: Path, embed: InvokeForMessages, name: str) -> None:
    embed("photos/coffee.jpg", "-o", name)
    for content in (b"", b"something else", Path(name).read_bytes()[:-40]):
        Path(name).write_bytes(content)
        code, err = embed("photos", "-o", name, "--resume")
        assert (code, err.count("\n")) == (2, 1), content
        assert "cannot be read" in err


@pytest.mark.slow
def test_a_killed_and_resumed_run_writes_the_same_file(
    here: Path, tiny: str, cli: Cli, embed: InvokeForMessages
) -> None:
    listed = "\n".join(["photos/coffee.jpg", "photos/text.png", "photos/rocket.jpg", "photos/camera.jpg"] * 50)
    Path("list").write_text(listed)
    options = ["--files-from", "list", "--batch-size", "4", "-o"]
    embed(*options, "whole.npy")
    killed = ended_by("SIGKILL", 50, "embed", "-m", tiny, "--runtime", "torch", *options, "out.npy")
    assert killed == -signal.SIGKILL
    assert not Path("out.npy").exists()
    code, err = embed(*options, "out.npy", "--resume")
    assert code == 3
    assert re.search(r"; \d+ kept, \d+ new", err)
    assert Path("out.npy").read_bytes() == Path("whole.npy").read_bytes()


@pytest.mark.slow
def test_only_parquet_features_can_be_piped(here: Path, tiny: str, cli: Cli) -> None:
    done = cli("embed", "photos/coffee.jpg", "-m", tiny)
    assert done.returncode == 0
    Path("piped.parquet").write_bytes(done.stdout)
    assert load("piped.parquet")[1] == ["photos/coffee.jpg"]
    done = cli("embed", "photos/coffee.jpg", "-m", tiny, "-f", "npz")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--format npz needs a regular file: name one with --output" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos", "-f", "csv"], 2, "--format csv: choose parquet, npz, npy"),
        (["photos", "-o", "out.csv"], 2, "out.csv: unknown suffix .csv: choose .parquet .npz .npy"),
        (["photos", "--precision", "int8"], 2, "int8 is for labels, not for features: choose --precision bf16 or fp32"),
        (["nothing*"], 4, "nothing matches nothing*: check the pattern"),
        (["photos", "--resume"], 2, "--resume goes with a file"),
        (["photos", "-o", "gone/out.npy"], 6, "there is no folder"),
        (["photos", "--dtype", "int8"], 2, "--dtype int8: choose fp32, fp16"),
        ([], 2, "name images, folders or globs"),
    ],
)
def test_wrong_options_of_embed_are_one_line(
    here: Path, embed: InvokeForMessages, arguments: list[str], code: int, message: str
) -> None:
    found, err = embed(*arguments, *([] if "-o" in arguments or "--resume" in arguments else ["-o", "out.npy"]))
    assert found == code
    assert message in err
    assert not Path("out.npy").exists()


@pytest.mark.slow
def test_embed_takes_a_backbone_without_a_classifier(here: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    Dinov2Model(config).save_pretrained("bare")
    BitImageProcessorPil(size={"shortest_edge": 64}, crop_size=56).save_pretrained("bare")
    assert b"is not a trained classifier" in cli("predict", "photos/coffee.jpg", "-m", "./bare").stderr
    done = cli("embed", "photos/coffee.jpg", "-m", "./bare", "-o", "out.npy")
    assert done.returncode == 0, done.stderr
    assert np.load("out.npy").shape == (1, 64)


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(
    here: Path, embed: InvokeForMessages, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed("photos/coffee.jpg", "-o", name)
    old = Path(name).read_bytes()
    table = open_features(name.split(".")[1], 64, np.float32).table

    def fill(_: object, file: BinaryIO, rows: Iterable[Embedding], __: Mapping[str, object]) -> None:
        file.write(b"some" * len(list(rows)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(type(table), "write", fill)
        code, err = embed("photos/coffee.jpg", "-o", name, "--batch-size", "1")
    assert (code, err) == (6, f"dinoclassify: cannot write {name}: No space left on device\n")
    assert Path(name).read_bytes() == old
    code, err = embed("photos/coffee.jpg", "-o", name, "--batch-size", "1", "--resume")
    assert code == 0
    assert "; 1 kept in " in err


def test_paths_and_errors_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        Embedding('a, "b".jpg', np.arange(3, dtype=np.float32), None, 5, 7),
        Embedding("ü\n.jpg", None, Failure("truncated", "it ends too early"), None, None),
        Embedding("x", np.ones(3, np.float32), None, 2**40, 2**62),
    ]
    for name in ("parquet", "npz", "npy"):
        made = open_features(name, 3, np.float32)
        assert made.table is not None
        with open(tmp_path / name, "wb") as file:
            made.table.write(file, rows, {})
        for wanted, read in zip(rows, made.table.read(str(tmp_path / name)), strict=True):
            assert (read.path, read.failure, read.size, read.mtime_ns) == (
                wanted.path,
                wanted.failure,
                wanted.size,
                wanted.mtime_ns,
            )
            assert (read.features is None) == (wanted.features is None)
            assert read.features is None or read.features.tolist() == wanted.features.tolist()  # type: ignore[union-attr]  # both are None or neither
        lines = made.lines
        assert [lines.parse(lines.line(row)).path for row in rows] == [row.path for row in rows]
