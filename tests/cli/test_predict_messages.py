"""What `predict` prints on stderr."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.timing import Stage, StageTimer
from tests.conftest import Cli
from tests.helpers.commands import HEADER, Invoke, parse_rows


def test_quiet_and_verbose(here: Path, tiny: str, invoke: Invoke) -> None:
    assert invoke("predict", "photos/coffee.jpg", "-m", tiny, "-q")[2] == ""
    err = invoke("predict", "photos/coffee.jpg", "-m", tiny, "-v", "--precision", "fp32")[2]
    assert re.search(rf"dinoclassify: {re.escape(tiny)} on cpu in fp32 by (torch|openvino)\n", err)
    shares = re.search(
        r"time: walk (\d+) %, read (\d+) %, decode (\d+) %, forward (\d+) %, write (\d+) %; in a worker an image took "
        r"[\d.]+ ms to read, [\d.]+ ms to decode; to be faster: \w",
        err,
    )
    assert shares is not None
    assert 97 <= sum(map(int, shares.groups())) <= 103


@pytest.mark.parametrize(
    ("stage", "arguments", "advice"),
    [
        ("walk", "photos/coffee.jpg", "try --files-from with a list of the images"),
        ("walk", "--files-from list", ""),
        ("decode", "photos/coffee.jpg", "try smaller images (all processors decode) or --shard on several machines"),
        ("decode", "photos/coffee.jpg --shard 1/1", "try smaller images (all processors decode)"),
        ("write", "photos/coffee.jpg -o x.parquet", "try --format csv"),
        ("write", "photos/coffee.jpg -o x.csv", "try a faster disk for FILE"),
        ("write", "photos/coffee.jpg", ""),
    ],
)
def test_verbose_advises_only_what_the_run_does_not_do_yet(
    stage: Stage, arguments: str, advice: str, here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageTimer, "bottleneck", lambda _: stage)
    monkeypatch.setattr("dinoclassify.loaded_model.available_cpus", lambda: 1)
    Path("list").write_text("photos/coffee.jpg\n")
    code, _, err = invoke("predict", *arguments.split(), "-m", tiny, "-v", "-j", "1")
    assert code == 0, err
    assert err.partition(" ms to decode")[2].partition("\n")[0].removeprefix("; to be faster: ") == advice


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict"], 2, "name images, folders or globs, - for a list on stdin, or --files-from a list"),
        (["predict", "photos", "--top-k", "0"], 2, "--top-k 0: must be at least 1"),
        (["predict", "photos", "--threshold", "2"], 2, "--threshold 2 is not a share from 0 to 1, such as 0.4 or 40%"),
        (["predict", "photos", "--shard", "3/2"], 2, "3/2 is not I/N with I from 1 to N."),
        (["predict", "photos", "--workers", "none"], 2, "none is neither auto nor a number from 1 to 100,000."),
        (["predict", "photos", "--format", "xml"], 2, "--format xml: choose csv, tsv, jsonl,"),
        (["predict", "photos", "--precision", "int3"], 2, "--precision int3 (did you mean int8?): choose auto, fp32"),
        (["predict", "photos", "--no-such-option"], 2, "No such option: --no-such-option"),
        (
            ["predict", "photos", "--device", "gpu"],
            2,
            "--device gpu (did you mean cuda?): choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple)",
        ),
        (["predict", "photos", "-m", "smal"], 2, "unknown model smal (did you mean small?): choose small, base"),
        (["predict", "photos", "-m", "TINY", "--revision", "v1"], 2, "--revision goes with models of the hub"),
        (["predict", "photos", "-m", "TINY", "--labels", "gone.txt"], 2, "gone.txt is not there: check its name"),
        (["predict", "photos", "-m", "./none", "-k", "665", "-o", "x.db"], 2, "more than SQLite has columns for"),
        (["predict", "photos", "-m", "./none", "-k", "664", "-o", "x.db"], 5, "none"),
        (["predict", "photos", "-m", "./none", "-k", "665", "--groups", "everyday", "-o", "x.db"], 5, "none"),
        (["predict", "photos", "-m", "TINY", "-f", "sqlite"], 2, "--format sqlite needs a regular file"),
        (["predict", "--files-from", "gone.txt"], 2, "gone.txt is not there: check its name"),
        (["predict", "photos", "--column", "x", "--files-from", "photos/text.png"], 2, "--column needs a .csv or"),
        (["predict", "photos", "--column", "x"], 2, "--column: there are no .parquet or .arrow tables in photos"),
        (["predict", "photos", "-0"], 2, "-0 goes with a list: - for stdin, or --files-from"),
        (["predict", "photos", "-j", "9999999999999999999999"], 2, "neither auto nor a number from 1 to 100,000."),
        (["predict", "photos", "--limit", "0"], 2, "--limit 0: must be at least 1"),
        (
            ["predict", "photos", "-o", "photos/coffee.jpg", "-f", "csv"],
            2,
            "coffee.jpg has the suffix of an image or an archive",
        ),
        (["predict", "photos", "-o", "labels.json"], 2, "labels.json: unknown suffix .json, did you mean .jsonl?"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "--shard", "1/2"], 2, "name a file with --output"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "-f", "sqlite"], 2, "choose parquet, jsonl or csv"),
        (["predict", "photos", "-m", "TINY", "-o", "x.csv", "--engine", "ray"], 2, "--engine ray writes a folder"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "--ray-address", "auto"], 2, "go with --engine ray"),
        (["predict", "photos", "-m", "TINY", "-o", "https://example.org/x.csv"], 2, "can only be read"),
        (["predict", "photos", "-m", "TINY", "-o", "nosuch://x/y.csv"], 2, "nosuch:// is not known"),
        (["no-such-command"], 2, "there is no command no-such-command: choose predict, merge"),
        (["predict", "empty"], 4, "no images in empty: check what is in there, and whether its disk is mounted"),
        (["predict", "photos", "--include", "*.tif"], 4, "photos: 7 images, none match --include '*.tif'"),
        (["predict", "photos", "--exclude", "*"], 4, "photos: 7 images, all left out by --exclude '*'"),
        (["predict", "photos", "--include", "*.md"], 4, "photos: 7 images, none match --include '*.md'"),
        (["predict", "photos", "--exclude", "*", "-o", "new/"], 4, "photos: 7 images, all left out by"),
        (
            ["predict", "photos/coffee.jpg", "--include", "*.tif"],
            4,
            "photos/coffee.jpg: 1 image, which does not match --include '*.tif': change the pattern",
        ),
        (["predict", "--files-from", "photos"], 2, "photos is a folder, not a list: name it among PATHS"),
        (["predict", "--files-from", "/dev/null"], 4, "the list /dev/null has no paths in it: check what wrote it"),
        (["predict", "--list"], 2, "name images, folders or globs"),
        (["predict", "--list", "photos", "-o", "x.csv"], 2, "--list prints the inputs, and writes no rows: leave out"),
        (["predict", "--list", "photos", "--resume"], 2, "and writes no rows: leave out --resume"),
        (["predict", "--list", "photos", "--watch"], 2, "and writes no rows: leave out --watch"),
        (["predict", "--list", "photos", "gone"], 4, "gone is not there: check its name, or mount its disk"),
        (["predict", "--list", "empty"], 4, "no images in empty"),
        (["predict", "photos", "empty/*.jpg"], 4, "nothing matches empty/*.jpg: check the pattern"),
        (["predict", "photos", "fotos"], 4, "fotos is not there: did you mean photos?"),
        (["predict", "photos", "empty/x"], 4, "empty/x is not there: empty is empty; is its disk mounted?"),
        (["predict", "photos", "gone/*.jpg"], 4, "nothing matches gone/*.jpg: gone is not there: check its name"),
        (["predict", "photos", "photos/text.png/x"], 4, "photos/text.png/x is not there, as photos/text.png is a file"),
        (["predict", "photos/coffee.jpg/"], 4, "photos/coffee.jpg/ is a file, not a folder: leave out the /"),
        (["predict", "photos", "my", "photos"], 4, "my is not there: check its name, or mount its disk"),
        (["predict", "photos", "~/no-such-folder"], 4, "the shell expands ~ only outside quotes; write /"),
        (["predict", "photos", "-m", "./gone"], 5, "there is no folder ./gone"),
        (["predict", "photos", "-m", "owner/none", "--offline"], 5, "use --model builtin, or --model ./DIR"),
        (["predict", "photos", "-m", "TINY", "-o", "gone/out.csv"], 6, "cannot write gone/out.csv: there is no folder"),
        (
            ["predict", "photos", "-m", "TINY", "-o", "photos"],
            6,
            "photos is a folder of images: name a file, such as -o labels.csv",
        ),
        (["predict", "photos", "-m", "TINY", "-o", "/dev/full"], 6, "cannot write /dev/full: No space left on device"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    here: Path, tiny: str, invoke: Invoke, arguments: list[str], code: int, message: str
) -> None:
    Path("empty").mkdir()
    actual, out, err = invoke(*(tiny if argument == "TINY" else argument for argument in arguments))
    assert (actual, out in ("", f"{HEADER}\n")) == (code, True)
    lines = err.splitlines()
    assert message in lines[-1]
    assert all(line.startswith("dinoclassify: ") for line in lines)
    assert len(lines) == 1
    assert sorted(os.listdir()) == ["empty", "photos"]


@pytest.mark.parametrize(
    ("folders", "said"), [(1, "1 folder, left out by --exclude '*'"), (2, "2 folders, all left out by --exclude '*'")]
)
def test_folders_that_are_left_out_are_counted(here: Path, invoke: Invoke, folders: int, said: str) -> None:
    for number in range(folders):
        Path(f"sub/{number}").mkdir(parents=True)
    code, _, err = invoke("predict", "sub", "--exclude", "*")
    assert (code, err) == (4, f"dinoclassify: sub: {said}: change the pattern\n")


def test_only_debug_prints_tracebacks(here: Path, invoke: Invoke) -> None:
    assert "Traceback" not in invoke("predict", "photos", "-m", "./gone")[2]
    assert "Traceback" in invoke("predict", "photos", "-m", "./gone", "--debug")[2]


def test_an_internal_error_is_one_line(here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.loaded_model.load_batches", lambda *_, **__: 1 / 0)
    code, _, err = invoke("predict", "photos", "-m", tiny)
    assert (code, err) == (1, "dinoclassify: internal error: division by zero; --debug shows where\n")


def test_control_characters_in_messages_are_escaped(here: Path, invoke: Invoke) -> None:
    err = invoke("predict", "photos", "-m", "./\x1b[31mred\n[/red]")[2]
    assert err == "dinoclassify: there is no folder ./\\x1b[31mred\\n[/red]: check its name\n"


def test_control_characters_in_rows_on_a_terminal_are_escaped(here: Path, tiny: str) -> None:
    shutil.copy("photos/coffee.jpg", "\x1b[31mred\x9b.jpg")
    command = f"{sys.executable} -m dinoclassify predict . -q -m {tiny} --include '*red*'"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, timeout=200)
    assert b"\\x1b[31mred\\x9b.jpg,ok" in done.stdout
    assert b"\x1b[31m" not in done.stdout


def test_progress_is_only_shown_on_terminals_or_on_demand(here: Path, tiny: str, invoke: Invoke) -> None:
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv")[2]
    assert err.count("\n") == 1
    assert "\r" not in err
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "--progress")[2]
    assert "\r" in err
    assert "7/7" in err


def test_a_warning_is_printed_once_and_above_the_progress_bar(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("photos/\x1b[31mloop").symlink_to(here / "photos")
    err = invoke("predict", "photos", "--follow", "-m", tiny, "-o", "out.csv", "--progress")[2]
    assert err.count("links to a folder above itself") == 1
    assert "\x1b[31m" not in err
    assert "dinoclassify: photos/\\x1b[31mloop links to a folder above itself and is not entered again\n" in err


def test_what_libraries_print_does_not_reach_stderr(shared_data: Path, tiny: str, cli: Cli) -> None:
    folder = shared_data / "hostile" / "pillow"
    names = [path for path in sorted(folder.glob("crash-*.tif")) if path.is_file()]
    assert len(names) > 5
    done = cli("predict", *names, "-m", tiny)
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert len(parse_rows(done.stdout.decode())) == len(names)
