"""Outputs that an update refuses, with the options that would match."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.checkpoints import edit_json
from tests.helpers.resumed import Predict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("-k", "2"),
            "out.csv has 1 label a row, you ask for 2: use -k 1, name another -o, or start over with --fresh",
        ),
        (("--exact",), "was made without --exact: leave out --exact, name another -o, or start over with --fresh"),
        (("-f", "jsonl"), "was made with --format csv, not jsonl: use --format csv, name another -o, or "),
        (
            ("--excel-safe",),
            "--format csv, not excel: leave out --excel-safe and use --format csv, name another -o, or ",
        ),
        (("--threshold", "0.5"), "was made with --threshold 0.0, not 0.5: use --threshold 0.0, name another -o, or "),
        (
            ("-k", "2", "--exact"),
            "was made with other options (--top-k, --exact): repeat them (leave out --exact, use --top-k 1), "
            "name another -o, or start over with --fresh instead of --resume (dinoclassify guide resume)\n",
        ),
        (("-m", "OTHER"), "OTHER: use --model TINY, name another -o, or "),
    ],
)
def test_rows_made_with_other_options_are_refused(
    here: Path,
    predict: Predict,
    options: tuple[str, ...],
    message: str,
    tiny: str,
    checkpoints: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = Path("out.csv").read_bytes()
    vit = checkpoints("vit")
    capfd.readouterr()  # the making of which is said
    other = [str(vit) if option == "OTHER" else option for option in options]
    message = message.replace("OTHER", str(vit)).replace("TINY", tiny)
    code, err = predict("photos", "-o", "out.csv", "--resume", *other)
    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert re.match(r"dinoclassify: --resume: out\.csv (was made with|has 1 label a row, you ask for 2: )", err), err
    assert Path("out.csv").read_bytes() == before
    assert sorted(os.listdir()) == ["out.csv", "out.csv.meta.json", "photos"]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_an_interrupted_run_with_other_columns_is_refused_by_its_options(
    here: Path, predict: Predict, kind: str
) -> None:
    output = ("photos", "-o", f"out.{kind}")
    assert predict(*output, "--strict", "--batch-size", "1")[0] == 7
    code, err = predict(*output, "--batch-size", "1", "--resume", "-k", "2")  # in larger ones no row would be left
    assert (code, f"--resume: out.{kind}.partial has 1 label a row, you ask for 2: use -k 1, " in err) == (
        2,
        True,
    ), err
    code, err = predict(*output, "--batch-size", "1", "-k", "2")
    assert (code, "finished rows of an interrupted run: --resume goes on, --fresh discards them" in err) == (2, True), (
        err
    )


def test_the_cures_of_a_refusal_are_true(here: Path, predict: Predict) -> None:
    common = ("photos", "-o", "out.csv", "-q")
    assert predict(*common)[0] == 3
    before = Path("out.csv").read_bytes()
    code, err = predict(*common, "--resume", "-k", "2")
    assert (code, err.endswith(" --fresh instead of --resume (dinoclassify guide resume)\n")) == (2, True), err
    assert predict(*common, "--resume", "-k", "1")[0] == 3
    assert Path("out.csv").read_bytes() == before
    assert predict("photos", "-o", "new.csv", "-q", "--resume", "-k", "2")[0] == 3
    assert predict(*common, "--fresh", "-k", "2")[0] == 3
    assert "label_2" in Path("out.csv").read_text()


def test_rows_of_images_decoded_on_a_gpu_are_refused(here: Path, predict: Predict) -> None:
    meta = Path("out.csv.meta.json")
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = Path("out.csv").read_bytes()
    made_with = json.loads(meta.read_text())["made_with"]
    edit_json(meta, made_with=made_with | {"decoder": "cpu"})
    assert predict("photos", "-o", "out.csv", "--resume", "-q")[0] == 3
    assert Path("out.csv").read_bytes() == before
    edit_json(meta, made_with=made_with | {"decoder": "gpu"})
    code, err = predict("photos", "-o", "out.csv", "--resume")
    said = "--resume: out.csv was made with decoder gpu, not cpu: name another -o, or start over with --fresh"
    assert (code, said in err, err.count("\n")) == (2, True, 1), err


def test_rows_without_metadata_are_refused(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    os.unlink("out.csv.meta.json")
    assert (
        "out.csv.meta.json is missing, so nobody can tell which model made out.csv: restore it, or start over"
        in predict("photos", "-o", "out.csv", "--resume")[1]
    )
    Path("out.csv").write_text("something else\n")
    assert "out.csv has rows that cannot be read" in predict("photos", "-o", "out.csv", "--resume")[1]


def test_metadata_of_a_missing_journal_are_ignored(here: Path, predict: Predict) -> None:
    common = ("photos", "-o", "out.csv", "-q")
    assert predict(*common)[0] == 3
    meta = json.loads(Path("out.csv.meta.json").read_text())
    begun = {"made_with": meta["made_with"] | {"top-k": 2}, "adds_to_output": False}
    Path("out.csv.partial.meta.json").write_text(json.dumps(begun))
    code, err = predict(*common, "--resume", "-k", "2")
    assert (code, "--resume: out.csv has 1 label a row, you ask for 2: use -k 1" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.jsonl", "5\n", "out.jsonl has rows that cannot be read (it is no object)"),
        ("out.csv", "a\rb\n", "out.csv has rows that cannot be read (new-line character seen in unquoted field"),
        ("out.csv.meta.json", '{"made_with": [1]}', "cannot read out.csv.meta.json, which says what made out.csv"),
    ],
)
def test_an_output_that_people_have_edited_is_refused(
    here: Path, predict: Predict, name: str, content: str, message: str
) -> None:
    output = name.removesuffix(".meta.json")
    assert predict("photos", "-o", output, "-q")[0] == 3
    with open(name, "a" if name == output else "w", newline="") as file:
        file.write(content)
    code, err = predict("photos", "-o", output, "--resume")
    assert (code, message in err) == (2, True), err
    assert err.endswith(": start over with --fresh instead of --resume\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--labels", "--groups", "--files-from"])
def test_the_output_may_not_be_a_table_that_the_run_reads(here: Path, predict: Predict, option: str) -> None:
    Path("table.csv").write_text("photos/coffee.jpg\n")
    for output in (("-o", "table.csv"), ("-o", "./table.csv"), ("-o", "out.csv", "--errors-to", "table.csv")):
        code, err = predict("photos", option, "table.csv", *output)
        assert (code, err.endswith("table.csv is also an input: choose another name\n"), err.count("\n")) == (
            2,
            True,
            1,
        )
    assert sorted(os.listdir()) == ["photos", "table.csv"]
