"""A warm run on OpenVINO imports what it needs: no torch, in no process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.cli import run
from tests.conftest import PHOTOS, by_fork

pytest.importorskip("openvino", reason="the extra openvino is not installed")

HEAVY = {"torch", "transformers", "pandas", "pyarrow", "nncf", "scipy"}
IMAGES = [str(PHOTOS / "coffee.jpg"), str(PHOTOS / "rocket.jpg")]

# A run, in which each worker prints what it has imported and mapped when it decodes, and the main process at the end.
SCRIPT = """
import sys
from pathlib import Path
from dinoclassify import Classifier
from dinoclassify.decoding import loader

decode = loader.decode

def say(name):
    print(name, "torch" in sys.modules or "libtorch" in Path("/proc/self/maps").read_text(), flush=True)

def watched(source, **options):
    say("worker")
    return decode(source, **options)

loader.decode = watched
classifier = Classifier(sys.argv[1], device="cpu")
assert classifier.runtime == "openvino"
assert [row.status for row in classifier.predict(sys.argv[2:], workers=2)] == ["ok", "ok"]
assert "libopenvino" in Path("/proc/self/maps").read_text()
say("main")
"""


@pytest.fixture
def warm(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that an earlier run has converted and compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["predict", IMAGES[0], "-m", tiny, "--device", "cpu", "-o", str(tmp_path / "first.csv")]) == 0
    return tiny


@pytest.mark.parametrize("output", [[], ["-o", "out.csv"], ["-o", "out.jsonl"]])
def test_a_warm_run_imports_nothing_heavy(output: list[str], warm: str, tmp_path: Path) -> None:
    """Python prints all imports, those of forked processes, too."""
    command = [sys.executable, "-X", "importtime", "-m", "dinoclassify", "predict", *IMAGES, "-m", warm, *output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / output[1]).read_text() if output else done.stdout
    assert all(image in rows for image in IMAGES)
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "openvino" in lines
    assert {name.partition(".")[0] for name in lines} & HEAVY == set()


@by_fork
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux shows what a process has mapped")
def test_no_process_of_a_warm_run_has_torch_in_its_memory(warm: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, warm, *IMAGES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["main False", "worker False", "worker False"]
