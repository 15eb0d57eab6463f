"""What people type wrong, and options that are set by environment variables: each message says what to type instead."""

import json
from pathlib import Path

import pytest

from dinoclassify.cli import run
from tests.conftest import PHOTOS

MISTAKES = [
    ("predcit photos", "there is no command predcit (did you mean predict?): choose predict, merge, "),
    ("classify photos", "there is no command classify: choose predict, merge, "),
    ("photos", "photos is not a command; to label it: dinoclassify predict photos"),
    ("'*.jpg'", "'*.jpg' is not a command; to label it: dinoclassify predict '*.jpg'"),
    ("help", "help is not a command; write dinoclassify --help"),
    (
        "-q predict photos",
        "-q: options follow the command, as in dinoclassify predict photos -q. See: dinoclassify --help",
    ),
    ("predict photos --topk 3", "--topk (Possible options: --top-k). See: dinoclassify predict --help"),
    (
        "predict photos --decoder gpu",
        "No such option: --decoder (Possible options: --device, --model). See: dinoclassify",
    ),
    ("predict photos -model small", "-model: write a long option with two dashes: --model"),
    ("predict photos -output=a.csv", "-output=a.csv: write a long option with two dashes: --output=a.csv"),
    ("predict photos -o=a.csv", "-o=a.csv: a short option takes its value without =: -o a.csv"),
    ("predict photos -k 0", "--top-k 0: must be at least 1. See: dinoclassify predict --help"),
    ("predict photos -k", "Option '-k' requires an argument. See: dinoclassify predict --help"),
    ("predict photos --timeout 2m", "--timeout 2m: write a number, such as 0.5. See: dinoclassify predict --help"),
    (
        "predict photos --limit 1.5",
        "--limit 1.5: write a whole number in digits, such as 1000. See: dinoclassify predict",
    ),
    ("predict photos --threshold 40", "--threshold 40 is not a share from 0 to 1, such as 0.4 or 40%. See: "),
    ("predict photos --threshold 0,4", "--threshold 0,4 is not a share from 0 to 1, such as 0.4 or 40%. See: "),
    ("predict photos --limit abc", "--limit abc: write a whole number in digits, such as 1000. See: "),
    ("sort labels.csv --min-score 0,4", "--min-score 0,4 is not a share from 0 to 1, such as 0.4 or 40%. See: "),
    ("evaluate photos --target-precision x", "--target-precision x is not a share from 0 to 1, such as 0.4 or 40%"),
    ("predict photos --precision float16", "--precision float16 (did you mean fp16?): choose auto, fp32, bf16, "),
    ("predict photos --groups everday", "dinoclassify: everday is not there: did you mean everyday?\n"),
    ("predict photos --groups evry.csv", "dinoclassify: evry.csv is not there: did you mean everyday?\n"),
    ("tag nofile.csv", "dinoclassify: nofile.csv is not there: check its name, or mount its disk\n"),
    ("predict photos -m bultin", "unknown model bultin (did you mean builtin?): choose small, base, "),
    (
        "predict photos -m builtin --device gpu",
        "--device gpu (did you mean cuda?): choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple). See: "
        "dinoclassify predict --help\n",
    ),
    ("predict photos -m builtin --device cpuu", "--device cpuu (did you mean cpu?): choose auto, cpu, "),
    ("predikt photos", "there is no command predikt (did you mean predict?): choose predict, merge, "),
    ("predikt photos", "bench, models, doctor, guide. See: dinoclassify --help\n"),
    ("--verison", "there is no option --verison (did you mean --version?). See: dinoclassify --help\n"),
    (
        "--top-k 3 predict photos",
        "--top-k: options follow the command, as in dinoclassify predict photos --top-k. See: ",
    ),
    ("predict photos --format josnl", "--format josnl (did you mean jsonl?): choose csv, tsv, jsonl, csv.gz, "),
    ("predict photos --format josnl", "parquet, sqlite. See: dinoclassify predict --help\n"),
    (
        "embed photos --format npx",
        "--format npx (did you mean npz?): choose parquet, npz, npy. See: dinoclassify embed",
    ),
    ("predict photos -m buitlin", "unknown model buitlin (did you mean builtin?): choose small, base, "),
    ("predict photos -m buitlin", "has the form owner/name. See: dinoclassify predict --help\n"),
    ("predict photos --prune", "--retry-failed and --prune go with --resume. See: dinoclassify predict --help\n"),
    ("predict photos --max-prune 3", "--max-prune goes with --prune. See: dinoclassify predict --help\n"),
    ("predict", "- for a list on stdin, or --files-from a list. See: dinoclassify predict --help\n"),
    ("sort", "or - for its rows on stdin. See: dinoclassify sort --help\n"),
    ("report", "or - for its rows on stdin. See: dinoclassify report --help\n"),
    ("merge", "name the parts: files that predict wrote. See: dinoclassify merge --help\n"),
    ("evaluate", "or --labels-from a table. See: dinoclassify evaluate --help\n"),
    ("sort labels.csv --to x", "--to goes with --undo; --into names the folder to sort into: leave out --to. See: "),
    (
        "sort labels.csv --into s --layout {lable}",
        "--layout {lable} (did you mean label?): choose from {label} {group} ",
    ),
    ("predict photos --labels photos", "photos is a folder: name the file with the labels\n"),
    ("predict photos --groups photos", "photos is a folder: name the file with the groups\n"),
    ("predict --files-from photo", "photo is not there: did you mean photos?\n"),
    ("predict photos --labels photo", "photo is not there: did you mean photos?\n"),
    ("predict photos --groups photo", "photo is not there: did you mean photos?\n"),
    (
        "merge photos",
        "has no rows that predict wrote: name files of rows, as predict photos -o labels.csv writes them\n",
    ),
    ("merge photo", "photo is not there: did you mean photos?\n"),
    (
        "report labels.csv -o ~/x.html",
        "--output ~/x.html: the shell expands ~ only outside quotes; write /home/x/x.html",
    ),
    (
        "predict photos -o ~/x.csv",
        "--output ~/x.csv: the shell expands ~ only outside quotes; write /home/x/x.csv. See:",
    ),
    ("predict photos -o ~/x/", "--output ~/x/: the shell expands ~ only outside quotes; write /home/x/x/. See:"),
    (
        "predict photos --labels ~/l.txt",
        "--labels ~/l.txt: the shell expands ~ only outside quotes; write /home/x/l.txt",
    ),
    (
        "predict photos --groups ~/g.csv",
        "--groups ~/g.csv: the shell expands ~ only outside quotes; write /home/x/g.csv",
    ),
    ("predict --files-from ~/l", "--files-from ~/l: the shell expands ~ only outside quotes; write /home/x/l. See:"),
    ("predict photos -o --resume", "--output lacks its value; for a file named --resume write ./--resume. See:"),
    ("predict photos -o --x", "--output lacks its value; for a file named --x write ./--x. See:"),
    ("predict photos --include -q", "--include lacks its value; for a file named -q write ./-q. See:"),
    (
        "predict photos -f jsonl -o a.csv.meta.json",
        "the suffix .meta.json is kept for the metadata of an output; choose ",
    ),
    ("predict photos -f csv -o a.meta.json/", "the suffix .meta.json is kept for the metadata of an output; choose "),
    ("embed photos -f npy -o a.npy.partial", "the suffix .partial is kept for the unfinished rows of an output; "),
    ("merge photos -f csv -o a.csv.meta.json", "the suffix .meta.json is kept for the metadata of an output; "),
    ("predict photos --errors-to a.csv.meta.json", "the suffix .meta.json is kept for the metadata of an output; "),
    (
        "predict x.parquet photos/coffee.jpg -m none/such --column image -o t.csv",
        "--column goes with tables, .parquet or .arrow, and with --files-from, not with photos/coffee.jpg. See: ",
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
    monkeypatch.setenv("HOME", "/home/x")
    (tmp_path / "photos").symlink_to(PHOTOS)
    return tmp_path


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_the_message_about_a_mistake_is_one_line_that_says_what_to_type(
    line: str, message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dinoclassify: ")
    assert message in err
    assert [path.name for path in here.iterdir()] == ["photos"]


def test_a_file_name_that_looks_like_an_option_or_home_is_accepted_with_its_folder(
    here: Path, tiny: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "photos", "-m", tiny, "-o", "./--resume"]) == 0
    (here / "~").mkdir()
    assert run(["predict", "photos", "-m", tiny, "-o", "~/x.csv", "--exclude", "~*"]) == 0
    assert sorted(path.name for path in here.glob("*")) == ["--resume", "--resume.meta.json", "photos", "~"]
    assert (here / "~/x.csv").read_bytes() == (here / "--resume").read_bytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "predict photos -o page/x.csv",
            "cannot write page/x.csv: {here}/page is a file, not a folder: choose another",
        ),
        (
            "predict photos -o foto/x.csv",
            "cannot write foto/x.csv: there is no folder {here}/foto: did you mean {here}/",
        ),
        ("predict photos -o deep/er/x.csv", "there is no folder {here}/deep/er: make it first (mkdir -p)"),
        ("predict photos --errors-to photos", "cannot write photos: it is a folder; name a file, in it or elsewhere"),
        ("report page -o photos", "cannot write photos: it is a folder; name a file, in it or elsewhere"),
        ("report page -o page/x.html", "cannot write page/x.html: {here}/page is a file, not a folder: choose another"),
        (
            "predict photos -o q/",
            "cannot write q/: q.partial is where its unfinished rows go, and no folder: move it away",
        ),
        (
            "predict photos -o r.csv",
            "cannot write r.csv: r.csv.partial is where its unfinished rows go, and no file: move",
        ),
        ("predict photos -o p.csv", "cannot lock p.csv: {here}/.p.csv.dinoclassify.lock is a link; remove it"),
    ],
)
def test_an_output_in_a_wrong_place_is_refused_with_the_cure(
    line: str, message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("page", "q.partial"):
        (here / name).touch()
    (here / "r.csv.partial").mkdir()
    (here / ".p.csv.dinoclassify.lock").symlink_to("nowhere")
    assert run(line.split()) == 6
    err = capfd.readouterr().err
    assert err.startswith(f"dinoclassify: {message.format(here=here)}" if message[0] == "c" else "dinoclassify: cannot")
    assert message.format(here=here) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict --files-from t.csv --column b", "t.csv has no column b; choose one with --column: a\n"),
        (
            "report t.csv -o x.html",
            "(it does not begin with the columns path,status,label,score): name the file that predict -o has written\n",
        ),
        (
            "predict photos --labels t.csv",
            "cannot read the labels t.csv: it needs a column label, and UTF-8\n",
        ),
    ],
)
def test_messages_about_file_contents_do_not_point_to_the_help(
    line: str, message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text("a\nx\n")
    assert run(line.split()) == 2
    assert capfd.readouterr().err.endswith(message)


def test_a_name_with_a_dash_is_an_input_after_two_dashes(
    here: Path, tiny: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "-model.jpg").symlink_to(PHOTOS / "coffee.jpg")
    assert run(["predict", "-m", tiny, "-qk2", "--", "-model.jpg"]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith("-model.jpg,ok,")


def test_a_share_may_be_a_percentage(tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "photos", "-m", tiny, "--threshold", "100%", "-o", "out.csv"]) == 0
    assert ",uncertain," in Path("out.csv").read_text()
    assert json.loads(Path("out.csv.meta.json").read_text())["options"]["threshold"] == 1.0


def test_environment_variables_of_one_command_do_not_change_others(
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


def test_environment_variables_without_effect_are_named_once(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Variables of older versions applied to all commands: jobs that rely on them must be warned."""
    for name in ("TOP_K", "PREDICT_TOPK", "UNDO", "PREDICT_LIMIT"):
        monkeypatch.setenv(f"DINOCLASSIFY_{name}", "2")
    expected = (
        "dinoclassify: these environment variables have no effect: DINOCLASSIFY_PREDICT_TOPK (did you mean "
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


def test_misspelt_environment_variables_are_named_by_the_command_they_are_meant_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("DINOCLASSIFY_PREDIKT_TOP_K", "dinoclassify_predict_limit", "DINOCLASSIFY_SORT_MODE"):
        monkeypatch.setenv(name, "2")
    assert run(["predict", "photos", "--list"]) == 0
    assert capfd.readouterr().err.splitlines()[0] == (
        "dinoclassify: these environment variables have no effect: DINOCLASSIFY_PREDIKT_TOP_K (did you mean "
        "DINOCLASSIFY_PREDICT_TOP_K?), dinoclassify_predict_limit (use DINOCLASSIFY_PREDICT_LIMIT)"
    )
    assert run(["models", "--json"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TOP_K", "x", "--top-k (set by DINOCLASSIFY_PREDICT_TOP_K) x: write a whole number in digits, such as 1000."),
        ("QUIET", "maybe", "--quiet (set by DINOCLASSIFY_PREDICT_QUIET) maybe: write 1 or 0."),
        ("SHARD", "3/2", "--shard (set by DINOCLASSIFY_PREDICT_SHARD) 3/2 is not I/N with I from 1 to N."),
        (
            "FORMAT",
            "xml",
            "jsonl.gz, parquet, sqlite (DINOCLASSIFY_PREDICT_FORMAT=xml in the environment). See: dinoclassify predict",
        ),
        ("MODEL", "none", "has the form owner/name (DINOCLASSIFY_PREDICT_MODEL=none in the environment)"),
        (
            "OUTPUT",
            "~/x.csv",
            "write /home/x/x.csv (DINOCLASSIFY_PREDICT_OUTPUT=~/x.csv in the environment). See: dinoclassify predict",
        ),
        ("TOP_K", "0", "--top-k (set by DINOCLASSIFY_PREDICT_TOP_K) 0: must be at least 1."),
    ],
)
def test_the_message_about_a_wrong_value_names_its_environment_variable(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"DINOCLASSIFY_PREDICT_{variable}", value)
    assert run(["predict", "photos"]) == 2
    assert message in capfd.readouterr().err


def test_a_removed_working_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(["models"]) == 2
    assert capfd.readouterr().err == "dinoclassify: the current folder is gone: change to another one (cd)\n"
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", ""], "PATHS has an empty name: check the variable that should hold it"),
        (["sort", "", "--into", "x"], "RESULTS has an empty name: check the variable that should hold it"),
        (["predict", "photos", "-o", ""], "--output is empty: give it a value, or leave it out. See: "),
        (["predict", "photos", "--errors-to", "s3://b/x"], "--errors-to s3://b/x: name a place on this machine, "),
        (["sort", "rows.csv", "--into", "s3://b/x"], "--into s3://b/x: name a place on this machine, not an address"),
        (["report", "rows.csv", "-o", "s3://b/x.html"], "--output s3://b/x.html: name a file on this machine, "),
        ([""], "there is no command '': choose predict, "),
    ],
)
def test_empty_names_and_addresses_for_places_here_are_refused(
    arguments: list[str], message: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A variable in the line of a cron job is not set, or names a store."""
    Path("rows.csv").write_text("path,status,label,score,index,error_code,error,size,mtime_ns\n")
    assert run(arguments) == 2
    assert capfd.readouterr().err.startswith(f"dinoclassify: {message}")
    assert not Path("s3:").exists()
