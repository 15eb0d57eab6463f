"""What newcomers type wrong, and options that are set by the environment: each message says what to type instead."""

import json
from pathlib import Path

import pytest
from conftest import PHOTOS

from dinoclassify.cli import run

MISTAKES = [
    ("predcit photos", "there is no command predcit (did you mean predict?): choose predict, merge, "),
    ("classify photos", "there is no command classify: choose predict, merge, "),
    ("photos", "photos is not a command: to label it: dinoclassify predict photos"),
    ("'*.jpg'", "'*.jpg' is not a command: to label it: dinoclassify predict '*.jpg'"),
    ("help", "help is not a command: dinoclassify --help"),
    (
        "-q predict photos",
        "-q: options follow the command, as in dinoclassify predict photos -q. See: dinoclassify --help",
    ),
    ("predict photos --topk 3", "--topk (Possible options: --top-k). See: dinoclassify predict --help"),
    ("predict photos -model small", "-model: write a long option with two dashes: --model"),
    ("predict photos -output=a.csv", "-output=a.csv: write a long option with two dashes: --output=a.csv"),
    ("predict photos -o=a.csv", "-o=a.csv: a short option takes its value without =: -o a.csv"),
    ("predict photos -k 0", "--top-k 0: must be at least 1. See: dinoclassify predict --help"),
    ("predict photos -k", "Option '-k' requires an argument. See: dinoclassify predict --help"),
    ("predict photos --timeout 2m", "--timeout 2m: must be a number, as 0.5 is. See: dinoclassify predict --help"),
    ("predict photos --limit 1.5", "--limit 1.5: must be a whole number, in digits only. See: dinoclassify predict"),
    ("predict photos --threshold 40", "--threshold: 40 is not a share from 0 to 1, such as 0.4 or 40%. See: "),
    ("predict photos --precision float16", "--precision float16 (did you mean fp16?): choose auto, fp32, bf16, "),
    ("predict photos --groups everday", "cannot read the groups everday (did you mean everyday?): No such file"),
    ("predict photos -m bultin", "unknown model bultin (did you mean builtin?): choose small, base, "),
    (
        "predict photos -m builtin --device gpu",
        "--device gpu: choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple)",
    ),
    ("train labelled", "train needs --output DIR. See: dinoclassify train --help"),
    (
        "tag labels.csv --format jsonl",
        "--format jsonl (did you mean json?): choose xmp, txt, json. See: dinoclassify tag",
    ),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(PHOTOS)
    return tmp_path


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_type(
    line: str, message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dinoclassify: ")
    assert message in err
    assert [path.name for path in here.iterdir()] == ["photos"]


def test_a_dash_that_is_a_value_or_follows_two_dashes_is_left_alone(
    here: Path, tiny: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "-model.jpg").symlink_to(PHOTOS / "coffee.jpg")
    assert run(["predict", "-m", tiny, "-qk2", "--", "-model.jpg"]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith("-model.jpg,ok,")


def test_shares_are_also_written_as_percentages(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "photos", "-m", tiny, "--threshold", "100%", "-o", "out.csv"]) == 0
    assert ",uncertain," in Path("out.csv").read_text()
    assert json.loads(Path("out.csv.meta.json").read_text())["options"]["threshold"] == 1.0


def test_variables_of_one_command_leave_the_others_alone(
    here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DINOCLASSIFY_PREDICT_FORMAT", "jsonl")
    monkeypatch.setenv("DINOCLASSIFY_PREDICT_OUTPUT", "rows")
    assert run(["predict", "photos", "-m", tiny]) == 0
    assert len([json.loads(line) for line in Path("rows").read_text().splitlines()]) == 5
    assert run(["predict", "photos", "-m", tiny, "-f", "csv", "-o", "rows.csv"]) == 0  # which goes before
    rows = Path("rows").read_bytes()
    assert run(["merge", "rows.csv", "-o", "-"]) == 0
    assert run(["tag", "rows.csv", "--dry-run"]) == 0
    assert Path("rows").read_bytes() == rows


def test_variables_that_set_nothing_are_named_once(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The old ones were for all commands at once: jobs that rely on them must hear of it."""
    for name in ("TOP_K", "PREDICT_TOPK", "UNDO", "PREDICT_LIMIT"):
        monkeypatch.setenv(f"DINOCLASSIFY_{name}", "2")
    expected = (
        "dinoclassify: set in the environment, without effect: DINOCLASSIFY_PREDICT_TOPK (did you mean "
        "DINOCLASSIFY_PREDICT_TOP_K?), DINOCLASSIFY_TOP_K (use DINOCLASSIFY_PREDICT_TOP_K)\n"
    )
    assert run(["predict", "photos", "-m", tiny]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 3
    assert err.startswith(expected)
    assert run(["predict", "photos", "-m", tiny, "-q"]) == 0
    assert capfd.readouterr().err == ""
    assert run(["predict", "photos", "-k", "0"]) == 2
    assert capfd.readouterr().err.startswith(expected)  # it may be why


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TOP_K", "x", "--top-k (set by DINOCLASSIFY_PREDICT_TOP_K) x: must be a whole number, in digits only."),
        ("QUIET", "maybe", "--quiet (set by DINOCLASSIFY_PREDICT_QUIET) maybe: must be 1 or 0."),
        ("SHARD", "3/2", "--shard (set by DINOCLASSIFY_PREDICT_SHARD): 3/2 is not I/N with I from 1 to N."),
        (
            "FORMAT",
            "xml",
            "jsonl.gz, parquet, sqlite (DINOCLASSIFY_PREDICT_FORMAT=xml in the environment)",
        ),
        ("MODEL", "none", "has the form owner/name (DINOCLASSIFY_PREDICT_MODEL=none in the environment)"),
        ("TOP_K", "0", "--top-k (set by DINOCLASSIFY_PREDICT_TOP_K) 0: must be at least 1."),
    ],
)
def test_a_wrong_value_of_a_variable_is_told_with_its_name(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"DINOCLASSIFY_PREDICT_{variable}", value)
    assert run(["predict", "photos"]) == 2
    assert message in capfd.readouterr().err


def test_a_working_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(["models"]) == 2
    assert capfd.readouterr().err == "dinoclassify: the working folder is not there any more: go to another one (cd)\n"
    monkeypatch.chdir(tmp_path)
