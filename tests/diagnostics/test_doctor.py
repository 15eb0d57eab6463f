"""What `doctor` says of a machine, a model and an output."""

import errno
import json
import re
import sys
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.diagnostics.doctor import examine
from dinoclassify.system.cgroups import CgroupLimits
from tests.conftest import Refuse


@pytest.fixture
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep `doctor` from importing torch, which takes seconds."""
    monkeypatch.setattr("dinoclassify.diagnostics.doctor._devices", lambda: iter(()))


def verdicts(model: str | None = "builtin", output: str | None = None) -> dict[str, tuple[str, str, str | None]]:
    return {finding.name: (finding.verdict, finding.found, finding.cure) for finding in examine(model, output)}


@pytest.mark.usefixtures("no_devices")
def test_doctor_lists_problems_last_and_names_their_cures(
    working_folder: Path, capsys: pytest.CaptureFixture[str], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["doctor", "-m", tiny, "-o", "out.csv"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["doctor", "-m", "./nowhere", "-o", "no/out.csv", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == "dinoclassify: these problems stop a run: model ./nowhere, place output\n"
    model, output = [row for row in json.loads(out) if row["verdict"] == "problem"]
    assert (model["found"], model["cure"]) == ("is no folder", "check its name")
    assert (output["found"], output["cure"]) == (f"there is no folder {working_folder}/no", "make it first (mkdir -p)")
    assert json.loads(out)[-2:] == [model, output], "problems come last"
    assert run(["doctor", "-m", "smal"]) == 2
    assert "did you mean small?" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(working_folder))
    assert verdicts("small")["small"][0] == "problem"
    assert verdicts(None)["small"][0] == "advice"


@pytest.mark.usefixtures("no_devices", "working_folder")
@pytest.mark.parametrize(
    ("output", "verdict", "found"),
    [
        ("/dev/null", "ok", "/dev/null: a device or a pipe; doctor does not try"),
        ("/dev/fd/999", "problem", "cannot write /dev/fd/999: no file is open there; open one in the shell (999>FILE)"),
        ("memory://b/x.csv", "ok", "memory://b/x.csv: in a store; doctor does not try"),
        ("foo://b/x.csv", "problem", "foo://b/x.csv: foo:// is not known; is its fsspec plug-in installed?"),
        ("https://b/x.csv", "problem", "https://b/x.csv: https:// can only be read"),
    ],
)
def test_doctor_on_an_output_that_is_no_file(output: str, verdict: str, found: str) -> None:
    said = verdicts(output=output)["output"]
    assert (said[0], said[1].startswith(found)) == (verdict, True), said


@pytest.mark.usefixtures("no_devices")
def test_doctor_does_not_check_the_working_folder_for_rows_on_stdout(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinoclassify.diagnostics.preflight._why_unwritable", lambda _: "Read-only file system")
    assert verdicts(output="out.csv")["output"] == (
        "problem",
        f"{working_folder}: Read-only file system",
        "let this user write there",
    )
    assert verdicts(output="-")["output"] == verdicts()["output"]
    assert verdicts()["output"][0] == "advice"


def test_doctor_on_a_machine_that_lacks_everything(
    no_cache: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch, refuse_locks: Refuse
) -> None:
    refuse_locks(errno.ENOSYS)
    (working_folder / "torch").mkdir()
    (working_folder / "torch" / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: failed to map segment')")
    monkeypatch.syspath_prepend(working_folder)  # and not that of this process, which has the real one
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(2 << 20, 0.5, 4))
    monkeypatch.setattr("dinoclassify.diagnostics.preflight.temporary_folder", lambda: None)
    found = verdicts()
    assert found["torch"][:2] == ("problem", "cannot be imported: ImportError: libtorch_cpu.so: failed to map segment")
    assert found["cache"][0] == "advice"
    assert found["temporary"] == ("problem", "no folder that can be written to", "set TMPDIR to one")
    assert found["locks"][:2] == ("advice", "this file system has none: runs use .claim files")
    assert found["processes"] == (
        "problem",
        "4, threads included",
        "allow more: ulimit -u, or --pids-limit of the container",
    )
    assert found["processors"][:2] == ("ok", "0.5 by the control group")
    assert found["memory of the container"][0] == "problem"


@pytest.mark.usefixtures("no_devices")
def test_doctor_goes_on_after_a_check_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("dinoclassify.diagnostics.preflight.check_limits", fails)
    assert verdicts()["doctor"][:2] == ("problem", "ValueError: no such thing")


@pytest.mark.usefixtures("no_devices")
def test_doctor_fits_a_terminal_of_80_columns(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["doctor", "-o", "no/out.csv"]) == 1
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.strip() == "-> make it first (mkdir -p)" for line in lines)
