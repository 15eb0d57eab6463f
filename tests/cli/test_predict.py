"""The command as people use it: what it prints, where, and how it ends."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.cli import run
from dinoclassify.writers.tally import Tally
from tests.conftest import PHOTOS, Cli, by_fork
from tests.helpers.checkpoints import LABELS
from tests.helpers.crash import nothing_is_left_of, size_of

HEADER = "path,status,label,score,index,error_code,error,size,mtime_ns"
Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run([*map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with images good and bad."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/broken.jpg").write_bytes(Path("photos/coffee.jpg").read_bytes()[:9000])
    Path("photos/text.png").write_text("not an image")
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


NAMES = ["broken.jpg", "camera.jpg", "chelsea.jpg", "coffee.jpg", "motorcycle_left.jpg", "rocket.jpg", "text.png"]


def test_a_folder_with_bad_files(here: Path, tiny: str, invoke: Invoke) -> None:
    code, out, err = invoke("predict", "photos", "-m", tiny)
    assert code == 3
    assert out.startswith(HEADER + "\n")
    table = rows(out)
    assert [row["path"] for row in table] == [f"photos/{name}" for name in NAMES]
    assert [row["status"] for row in table] == ["failed", "ok", "ok", "ok", "ok", "ok", "failed"]
    assert [row["error_code"] for row in table][:: len(NAMES) - 1] == ["truncated", "not_image"]
    assert all(row["label"] in LABELS and 0 < float(row["score"]) <= 1 for row in table[1:-1])
    assert all(row["label"] == row["score"] == row["index"] == "" for row in (table[0], table[-1]))
    pattern = (
        r"dinoclassify: 7 images: 5 ok, 2 failed \(1 truncated, 1 not_image\); 1 passed over: 1 .md in [\d.]+ s, .*\n"
    )
    assert re.fullmatch(pattern, err)


def test_the_same_rows_in_every_format(here: Path, tiny: str, invoke: Invoke) -> None:
    for name in ("out.csv", "out.jsonl", "out.parquet", "out.db"):
        assert invoke("predict", "photos", "-m", tiny, "-k", "3", "-o", name)[:2] == (3, "")
    table = rows(Path("out.csv").read_text())
    objects = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["path"] for row in table] == [item["path"] for item in objects]
    assert [row["label_3"] for row in table] == [item["top"][2]["label"] if item["top"] else "" for item in objects]
    import pandas as pd

    parquet = pd.read_parquet("out.parquet")
    assert list(parquet) == list(table[0])
    assert parquet["score_2"].fillna(-1).tolist() == [float(row["score_2"] or -1) for row in table]


def test_file_output_has_a_sidecar(here: Path, tiny: str, invoke: Invoke) -> None:
    code, out, err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "--threshold", "0.999", "--exact")
    assert (code, out) == (3, "")
    assert err.endswith(" -> out.csv\n")
    meta = json.loads(Path("out.csv.meta.json").read_text())
    assert meta["counts"]["failed"] == 2
    assert sum(meta["counts"].values()) == 7
    assert meta["errors"] == {"truncated": 1, "not_image": 1}
    assert meta["model"]["name"] == tiny
    assert meta["model"]["labels"] == 7
    assert meta["model"]["preprocessing"]["crop"] == [56, 56]
    assert meta["options"]["threshold"] == 0.999
    assert meta["options"]["exact"] is True
    assert set(meta["versions"]) >= {"dinoclassify", "torch", "transformers", "pillow"}
    assert sorted(os.listdir()) == ["out.csv", "out.csv.meta.json", "photos"]


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


def test_threshold_and_labels(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("names.txt").write_text("\n".join("abcdefg"))
    Path("names.json").write_text(json.dumps({str(n): letter for n, letter in enumerate("abcdefg")}))
    Path("names.csv").write_text("index,label\n" + "".join(f"{n},{'abcdefg'[n]}\n" for n in reversed(range(7))))
    plain = rows(invoke("predict", "photos/c*.jpg", "-m", tiny, "--threshold", "1")[1])
    assert {row["status"] for row in plain} == {"uncertain"}
    for name in ("names.txt", "names.json", "names.csv"):
        named = rows(invoke("predict", "photos/c*.jpg", "-m", tiny, "--labels", name)[1])
        assert [row["label"] for row in named] == ["abcdefg"[int(row["index"])] for row in plain]
    Path("names.txt").write_text("too\nfew\n")
    code, out, err = invoke("predict", "photos/c*.jpg", "-m", tiny, "--labels", "names.txt")
    assert (code, out, err) == (2, "", f"dinoclassify: 2 labels for the 7 classes of {tiny}\n")


def test_every_way_to_name_inputs(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("list.txt").write_text("photos/coffee.jpg\nphotos/rocket.jpg\n")
    Path("table.csv").write_text("n,file\n1,photos/camera.jpg\n")

    def paths(*arguments: str) -> list[str]:
        return [row["path"].removeprefix("photos/") for row in rows(invoke("predict", "-m", tiny, "-q", *arguments)[1])]

    assert paths("--files-from", "list.txt") == ["coffee.jpg", "rocket.jpg"]
    assert paths("--files-from", "table.csv", "--column", "file") == ["camera.jpg"]
    assert paths("photos", "--include", "c*", "--exclude", "*mera*") == ["chelsea.jpg", "coffee.jpg"]
    assert paths("photos", "--limit", "2") == NAMES[:2]
    assert sorted(paths("photos", "--shard", "1/2") + paths("photos", "--shard", "2/2")) == NAMES
    assert paths("photos/**/c*.jpg", "photos/rocket.jpg") == ["camera.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"]
    assert paths("--", "photos/rocket.jpg", "-odd.jpg") == ["rocket.jpg", "-odd.jpg"]


def test_lists_on_stdin(here: Path, tiny: str, invoke: Invoke, stdin: Callable[[bytes], None]) -> None:
    stdin(b"photos/coffee.jpg\0photos/gone\nwith newline.jpg\0photos/rocket.jpg\0")
    code, out, err = invoke("predict", "-0", "-", "-m", tiny, "-f", "jsonl", "-q")
    paths = [json.loads(line)["path"] for line in out.splitlines()]
    assert paths == ["photos/coffee.jpg", "photos/gone\nwith newline.jpg", "photos/rocket.jpg"]
    assert (code, err) == (3, "")


def test_a_program_can_ask_image_by_image(here: Path, tiny: str) -> None:
    command = [sys.executable, "-m", "dinoclassify", "predict", "-", "-m", tiny, "-f", "jsonl", "-q"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("coffee.jpg", "text.png", "rocket.jpg"):
            print(f"photos/{name}", file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["path"] == f"photos/{name}"
        process.stdin.close()
        assert process.wait(timeout=200) == 3  # before its stdout is closed, which would end it with 0


@pytest.mark.parametrize(("end", "code"), [("closed", 0), ("terminated", 143)])
def test_a_run_can_end_while_its_list_goes_on(here: Path, tiny: str, end: str, code: int) -> None:
    command = [sys.executable, "-m", "dinoclassify", "predict", "-", "-m", tiny, "-q"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("photos/coffee.jpg\n" * 100)
        process.stdin.flush()
        assert [process.stdout.readline()[:5] for _ in range(3)] == ["path,", "photo", "photo"]
        if end == "closed":
            process.stdin.write("photos/coffee.jpg\n" * 2000)  # while it reads: once it has gone there is no pipe
            process.stdin.flush()
            process.stdout.close()
        else:
            process.terminate()
        assert process.wait(timeout=100) == code
        assert not re.search("Fatal|Traceback", process.stderr.read())


def test_options_from_the_environment(here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODEL": tiny, "TOP_K": "2", "FORMAT": "jsonl", "EXCLUDE": "*.png b*", "QUIET": "1"}.items():
        monkeypatch.setenv(f"DINOCLASSIFY_PREDICT_{name}", value)
    code, out, err = invoke("predict", "photos")
    assert (code, err) == (0, "")
    assert [len(json.loads(line)["top"]) for line in out.splitlines()] == [2] * 5


def test_where_rows_are_is_said_only_when_there_are_some() -> None:
    tally = Tally()
    tally.start({})
    assert not tally.has_rows
    tally.start({"ok": 156})  # of an interrupted run
    assert tally.has_rows


def test_top_k_is_at_most_the_number_of_classes(here: Path, tiny: str, invoke: Invoke) -> None:
    assert "index_7,error_code" in invoke("predict", "photos/coffee.jpg", "-m", tiny, "-k", "100")[1]


def test_max_pixels(here: Path, tiny: str, invoke: Invoke) -> None:
    Image.new("RGB", (300, 100)).save("large.png")
    code, out, _ = invoke("predict", "large.png", "-m", tiny, "--max-pixels", "29999")
    assert (code, rows(out)[0]["error_code"]) == (3, "too_large")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict"], 2, "name images, folders or globs, - for a list on stdin, or --files-from a list"),
        (["predict", "photos", "--top-k", "0"], 2, "--top-k 0: must be at least 1"),
        (["predict", "photos", "--threshold", "2"], 2, "--threshold: 2 is not a share from 0 to 1, such as 0.4 or 40%"),
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
        (["predict", "photos", "-m", "TINY", "--labels", "gone.txt"], 2, "the labels gone.txt: it is not there"),
        (["predict", "photos", "-m", "./none", "-k", "665", "-o", "x.db"], 2, "more than SQLite has columns for"),
        (["predict", "photos", "-m", "./none", "-k", "664", "-o", "x.db"], 5, "none"),
        (["predict", "photos", "-m", "./none", "-k", "665", "--groups", "everyday", "-o", "x.db"], 5, "none"),
        (["predict", "photos", "-m", "TINY", "-f", "sqlite"], 2, "--format sqlite needs a regular file"),
        (["predict", "--files-from", "gone.txt"], 2, "cannot read the list gone.txt: it is not there: check its name"),
        (["predict", "photos", "--column", "x", "--files-from", "photos/text.png"], 2, "--column needs a .csv or"),
        (["predict", "photos", "--column", "x"], 2, "--column: there are no .parquet or .arrow tables in photos"),
        (["predict", "photos", "-0"], 2, "-0 goes with a list: - for stdin, or --files-from"),
        (["predict", "photos", "-j", "9999999999999999999999"], 2, "neither auto nor a number from 1 to 100,000."),
        (["predict", "photos", "--limit", "0"], 2, "--limit 0: must be at least 1"),
        (["predict", "photos", "-o", "photos/coffee.jpg", "-f", "csv"], 2, "coffee.jpg would be written over an input"),
        (["predict", "photos", "-o", "labels.json"], 2, "labels.json: unknown suffix .json, did you mean .jsonl?"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "--shard", "1/2"], 2, "name a file with --output"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "-f", "sqlite"], 2, "choose parquet, jsonl or csv"),
        (["predict", "photos", "-m", "TINY", "-o", "x.csv", "--engine", "ray"], 2, "--engine ray writes a folder"),
        (["predict", "photos", "-m", "TINY", "-o", "new/", "--ray-address", "auto"], 2, "go with --engine ray"),
        (["predict", "photos", "-m", "TINY", "-o", "https://example.org/x.csv"], 2, "can only be read"),
        (["predict", "photos", "-m", "TINY", "-o", "nosuch://x/y.csv"], 2, "nosuch:// is not known"),
        (["no-such-command"], 2, "there is no command no-such-command: choose predict, merge"),
        (["predict", "empty"], 4, "no images in empty: check what is in there, and whether its disk is mounted"),
        (["predict", "photos", "--include", "*.tif"], 4, "7 images in photos, none match --include '*.tif'"),
        (["predict", "photos", "--exclude", "*"], 4, "7 images in photos, all are left out by --exclude '*'"),
        (["predict", "photos", "--include", "*.md"], 4, "7 images in photos, none match --include '*.md'"),
        (["predict", "photos", "--exclude", "*", "-o", "new/"], 4, "7 images in photos, all are left out by"),
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
        (["predict", "photos", "photos/text.png/x"], 4, "photos/text.png/x is not there: photos/text.png is a file"),
        (["predict", "photos/coffee.jpg/"], 4, "photos/coffee.jpg/ is a file, not a folder: leave out the /"),
        (["predict", "photos", "my", "photos"], 4, "my is not there: check its name, or mount its disk"),
        (["predict", "photos", "~/no-such-folder"], 4, "the shell expands ~ only outside quotes; write /"),
        (["predict", "photos", "-m", "./gone"], 5, "there is no folder ./gone"),
        (["predict", "photos", "-m", "owner/none", "--offline"], 5, "use --model builtin, or --model ./DIR"),
        (["predict", "photos", "-m", "TINY", "-o", "gone/out.csv"], 6, "cannot write gone/out.csv: there is no folder"),
        (["predict", "photos", "-m", "TINY", "-o", "photos"], 6, "which no run wrote: choose another folder"),
        (["predict", "photos", "-m", "TINY", "-o", "/dev/full"], 6, "cannot write /dev/full: No space left on device"),
    ],
)
def test_errors_are_one_line_with_a_code(
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


def test_a_list_is_not_written_over_under_another_name(here: Path, invoke: Invoke) -> None:
    Path("list.txt").write_text("photos/coffee.jpg\n")
    code, _, err = invoke("predict", "--files-from", "list.txt", "-o", "./photos/../list.txt", "-f", "csv")
    assert (code, err) == (2, "dinoclassify: ./photos/../list.txt would be written over an input\n")
    assert Path("list.txt").read_text() == "photos/coffee.jpg\n"


def contents() -> dict[str, bytes]:
    """All files in the current folder, with their content."""
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


@pytest.mark.parametrize("output", ["labels.csv", "labels.db", "labels/", "new.csv"])
@pytest.mark.parametrize("away", ["album", "album/", "'album/*.jpg'", "link"])
def test_a_root_that_is_away_ends_the_run_before_anything_is_touched(
    here: Path, tiny: str, invoke: Invoke, output: str, away: str
) -> None:
    """The night the disk is not mounted must not cost yesterday's labels."""
    shutil.copytree("photos", "album")
    Path("link").symlink_to("album")
    if output != "new.csv":
        assert invoke("predict", "photos", "album", "-m", tiny, "-o", output, "-q")[0] == 3
    shutil.rmtree("album")
    before = contents()
    for more in ([], ["--resume", "--prune"]):
        code, out, err = invoke("predict", "photos", away.strip("'"), "-m", tiny, "-o", output, *more)
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert re.search(
            "album,? (which )?is not there: check its name, or mount its disk", err.replace("album/ ", "album ")
        )
        assert contents() == before


def test_an_empty_folder_beside_others_is_fine(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("empty").mkdir()
    code, out, err = invoke("predict", "empty", "photos", "-m", tiny, "-q")
    assert (code, len(rows(out)), err) == (3, 7, "")


def test_what_may_come_and_go_keeps_its_row(here: Path, tiny: str, invoke: Invoke) -> None:
    """A file that is named by its suffix, a member of an archive, and whatever stands in a list."""
    Path("list").write_text("gone\nfolder/\n")
    names = ["gone.JPG", "a.zip", "a.tar.gz", "a.zip!x", "b.zip!x.jpg", "t.parquet"]
    code, out, _ = invoke("predict", *names, "--files-from", "list", "-m", tiny)
    assert code == 3
    assert [(row["path"], row["error_code"]) for row in rows(out)] == [
        (name, "vanished") for name in [*names, "gone", "folder/"]
    ]


def test_the_inputs_are_listed_as_a_run_takes_them(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("photos/.hidden.jpg").touch()
    with tarfile.open("a.tar.gz", "w:gz") as archive:
        archive.add("photos/coffee.jpg", "in/coffee.jpg")
        archive.add("photos/SOURCES.md", "in/notes.md")
    Path("list").write_text("gone.jpg\nphotos/rocket.jpg\n")
    for arguments in (
        ["photos", "a.tar.gz", "photos/c*", "--files-from", "list", "--exclude", "ch*"],
        ["photos", "--hidden", "--include", "c*", "--include", ".*"],
        ["photos", "--shard", "2/3"],
        ["photos", "--limit", "3"],
        ["photos/coffee.jpg", "--shard", "2/3"],
    ):
        labelled = [row["path"] for row in rows(invoke("predict", *arguments, "-m", tiny)[1])]
        code, out, err = invoke("predict", *arguments, "--list", "-m", "no/such-model", "-k", "3")
        assert (code, out.splitlines()) == (0, labelled)
        assert re.fullmatch(rf"dinoclassify: {len(labelled)} inputs(; \d passed over: \d .md)?\n", err)
    assert invoke("predict", "photos", "--list", "--limit", "1", "-q") == (0, "photos/broken.jpg\n", "")


def test_a_listing_has_names_exactly_and_imports_no_model(here: Path, cli: Cli) -> None:
    names = [b"new\nline.jpg", b"bad\xff.jpg"]
    os.mkdir("odd")
    for name in names:
        open(b"odd/" + name, "w").close()
    expected = b"".join(b"odd/" + name + b"\0" for name in sorted(names))
    assert cli("predict", "odd", "--list", "-0").stdout == expected
    assert cli("predict", "-", "--list", "-0", input=expected).stdout == expected
    done = cli("predict", "odd", "--list")
    assert done.stdout == expected.replace(b"\0", b"\n")
    assert done.stderr.startswith(b"dinoclassify: odd/new\\nline.jpg breaks the list on stdout: use -0\n")
    code = "import sys; from dinoclassify.cli import run; run(['predict', 'odd', '--list', '-q']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True).stdout.split()
    assert not {b"torch", b"transformers", b"numpy", b"pandas", b"PIL"} & set(modules)


def test_a_listing_ends_quietly_with_its_reader(here: Path) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = f"{sys.executable} -m dinoclassify predict --files-from list --list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == ("photos/coffee.jpg\n0\n", "")


def test_what_is_passed_over_is_named_once_on_demand(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("photos/raw").mkdir()
    Path("photos/raw/x.PSD").touch()
    Path("photos/.hidden.psd").touch()
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "-v", "--progress")[2]
    said = [line for line in re.split(r"[\r\n]", err) if "passed over: photos" in line]
    assert sorted(line[line.index("dino") :] for line in said) == [
        "dinoclassify: passed over: photos/SOURCES.md",
        "dinoclassify: passed over: photos/raw/x.PSD",
    ]
    assert "passed over: photos/" not in invoke("predict", "photos", "-m", tiny, "-o", "out.csv")[2]


def test_a_folder_without_images_says_what_is_in_it(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("drawings").mkdir()
    for name in ("a.psd", "b.psd", "c"):
        Path("drawings", name).touch()
    for output in ("labels.csv", "labels/", "-"):
        code, _, err = invoke("predict", "drawings", "-m", tiny, "-o", output)
        why = "3 files in drawings, none with the suffix of an image: 2 .psd, 1 without suffix"
        assert (code, err) == (4, f"dinoclassify: {why}; name those that are images all the same\n")


def test_nothing_found_leaves_an_old_file_alone(here: Path, invoke: Invoke) -> None:
    """The day the disk is not mounted must not cost yesterday's labels."""
    Path("empty").mkdir()
    Path("out.csv").write_text("old")
    assert invoke("predict", "empty", "-o", "out.csv")[0] == 4
    assert Path("out.csv").read_text() == "old"
    for output in ("new.csv", "new/", "-"):
        assert invoke("predict", "empty", "-o", output)[:2] == (4, "")
    assert sorted(os.listdir()) == ["empty", "out.csv", "photos"]


def test_tracebacks_on_demand(here: Path, invoke: Invoke) -> None:
    assert "Traceback" not in invoke("predict", "photos", "-m", "./gone")[2]
    assert "Traceback" in invoke("predict", "photos", "-m", "./gone", "--debug")[2]


def test_an_internal_error_is_one_line(here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.loaded_model.load_batches", lambda *_, **__: 1 / 0)
    code, _, err = invoke("predict", "photos", "-m", tiny)
    assert (code, err) == (1, "dinoclassify: internal error: division by zero; --debug shows where\n")


def test_names_cannot_steer_the_terminal_or_break_the_line(here: Path, invoke: Invoke) -> None:
    err = invoke("predict", "photos", "-m", "./\x1b[31mred\n[/red]")[2]
    assert err == "dinoclassify: there is no folder ./\\x1b[31mred\\n[/red]\n"


def test_a_closed_reader_ends_the_run_quietly(here: Path, tiny: str) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = f"{sys.executable} -m dinoclassify predict --files-from list -m {tiny}"
    script = f"{command} | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=200)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert (lines[0], len(lines), lines[-1]) == (HEADER, 4, "0")


def test_closed_stdout_is_said(here: Path, tiny: str) -> None:
    command = f"{sys.executable} -m dinoclassify predict photos -m {tiny}"
    done = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (6, "dinoclassify: stdout is closed: name a file with --output\n")


def test_messages_stay_out_of_stdout_where_stderr_is_closed(here: Path) -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m dinoclassify predict 'none*' 2>&-"], capture_output=True)
    assert (done.returncode, done.stdout) == (4, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_the_run_and_keep_its_rows(here: Path, tiny: str, number: signal.Signals, code: int) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    Path("out.csv").write_text("old")
    arguments = ["predict", "--files-from", "list", "-m", tiny, "-o", "out.csv"]
    script = (
        "from dinoclassify.cli.runs import signals; signals.GRACE = 90.0;from dinoclassify.__main__ import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        partial = Path("out.csv.partial")
        while size_of(partial) <= 1000:
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=100)
    assert process.returncode == code
    assert re.fullmatch(
        r"dinoclassify: stopping after the batches under way; again to stop at once\n"
        rf"dinoclassify: stopped by {number.name} after [\d,]+ images; "
        r"finished rows are in out.csv.partial, --resume goes on\n",
        err,
    )
    assert Path("out.csv").read_text() == "old"
    assert partial.read_bytes().endswith(b"\n")
    assert len(rows(partial.read_text())) == int(err.splitlines()[1].split()[5].replace(",", ""))
    assert len(rows(partial.read_text())) < 100_000
    assert nothing_is_left_of(process.pid)


@by_fork
@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once(here: Path, tiny: str) -> None:
    for signals, grace in ((1, 1.0), (2, 500.0)):
        script = (
            "import dinoclassify.decoding.loader as loader, dinoclassify.cli as cli, time\n"
            f"from dinoclassify.cli.runs import signals; signals.GRACE = {grace}\n"
            "loader.decode = lambda *_, **__: (open('begun', 'w').close(), time.sleep(1000))\n"
            f"import sys; sys.argv[1:] = ['predict', 'photos', '-m', {tiny!r}, '-o', 'out.csv']\n"
            "cli.main()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stderr is not None
            while not os.path.exists("begun"):
                time.sleep(0.05)
            process.terminate()
            assert b"again to stop at once" in process.stderr.readline()
            if signals == 2:
                process.terminate()
            assert process.wait(timeout=200) == 143  # long before the second grace is over
        for name in ("begun", "out.csv.partial.meta.json", "out.csv.partial"):
            os.unlink(name)
        assert nothing_is_left_of(process.pid)


def test_names_are_shown_on_a_terminal_as_they_cannot_steer_it(here: Path, tiny: str) -> None:
    shutil.copy("photos/coffee.jpg", "\x1b[31mred\x9b.jpg")
    command = f"{sys.executable} -m dinoclassify predict . -q -m {tiny} --include '*red*'"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, timeout=200)
    assert b"\\x1b[31mred\\x9b.jpg,ok" in done.stdout
    assert b"\x1b[31m" not in done.stdout


def test_a_signal_while_the_model_loads_is_said(here: Path, tiny: str) -> None:
    command = [sys.executable, "-m", "dinoclassify", "predict", "photos", "-m", tiny]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.02)  # until it has begun to import torch
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (130, "")
    assert err == "dinoclassify: stopped by SIGINT\n"


def test_progress_is_for_terminals_alone(here: Path, tiny: str, invoke: Invoke) -> None:
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv")[2]
    assert err.count("\n") == 1
    assert "\r" not in err
    err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "--progress")[2]
    assert "\r" in err
    assert "7/7" in err


def test_a_list_from_a_pipe_is_read_once(here: Path, tiny: str, invoke: Invoke) -> None:
    """The bar's total comes from a second look at the inputs, which a pipe does not allow."""
    reader, writer = os.pipe()
    os.write(writer, b"photos/coffee.jpg\n" * 500)
    os.close(writer)
    # As bash has it for <(cat list).
    assert invoke("predict", "--progress", "-m", tiny, "-o", "out.csv", "--files-from", f"/dev/fd/{reader}")[0] == 0
    os.close(reader)
    assert len(rows(Path("out.csv").read_text())) == 500


def test_warnings_are_said_once_and_above_the_bar(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("photos/\x1b[31mloop").symlink_to(here / "photos")
    err = invoke("predict", "photos", "--follow", "-m", tiny, "-o", "out.csv", "--progress")[2]
    assert err.count("links to a folder above itself") == 1
    assert "\x1b[31m" not in err
    assert "dinoclassify: photos/\\x1b[31mloop links to a folder above itself and is not entered again\n" in err


@pytest.mark.slow
def test_output_to_a_pipe_and_a_device(here: Path, tiny: str) -> None:
    command = f"{sys.executable} -m dinoclassify predict photos -q -m {tiny}"
    done = subprocess.run(["bash", "-c", f"{command} -o >(cat > copy.csv); wait $!"], capture_output=True, timeout=200)
    assert done.stderr == b""
    assert len(rows(Path("copy.csv").read_text())) == 7
    done = subprocess.run(["bash", "-c", f"{command} -o /dev/stdout | cat"], capture_output=True, timeout=200)
    assert done.stdout == Path("copy.csv").read_bytes()
    Path("all.csv").write_text("precious\n")
    subprocess.run(["bash", "-c", f"{command} -o /dev/stdout >> all.csv"], timeout=200)
    assert Path("all.csv").read_bytes() == b"precious\n" + done.stdout
    assert sorted(os.listdir()) == ["all.csv", "copy.csv", "photos"], "and no sidecar of a pipe"


def test_what_libraries_print_does_not_reach_stderr(shared_data: Path, tiny: str, cli: Cli) -> None:
    folder = shared_data / "hostile" / "pillow"
    names = [path for path in sorted(folder.glob("crash-*.tif")) if path.is_file()]
    assert len(names) > 5
    done = cli("predict", *names, "-m", tiny)
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert len(rows(done.stdout.decode())) == len(names)


def test_hidden_and_follow(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("more").mkdir()
    shutil.copy("photos/coffee.jpg", "more/.hidden.jpg")
    Path("photos/link").symlink_to(here / "more")
    common = ("predict", "photos", "-m", tiny, "-q", "--include", ".*")
    assert rows(invoke(*common, "--hidden")[1]) == rows(invoke(*common, "--follow")[1]) == []
    (row,) = rows(invoke(*common, "--hidden", "--follow")[1])
    assert (row["path"], row["status"]) == ("photos/link/.hidden.jpg", "ok")


def test_the_sidecar_names_the_commit_of_a_hub_model(
    here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.helpers.models import COMMIT, SMALL, put_into_cache

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "hub"))
    put_into_cache(here / "hub", Path(tiny))
    assert invoke("predict", "photos/coffee.jpg", "-o", "out.csv", "-q") == (0, "", "")
    model = json.loads(Path("out.csv.meta.json").read_text())["model"]
    assert (model["name"], model["revision"]) == (SMALL, COMMIT)


def test_exact_and_fast_differ_little(here: Path, tiny: str, invoke: Invoke) -> None:
    common = ("predict", "photos/*.jpg", "-m", tiny, "--precision", "fp32")
    fast, exact = rows(invoke(*common)[1]), rows(invoke(*common, "--exact")[1])
    for one, other in zip(fast, exact, strict=True):
        assert one["index"] == other["index"]
        assert not one["score"] or float(one["score"]) == pytest.approx(float(other["score"]), abs=0.05)


def test_batch_size_and_workers_do_not_change_the_rows(here: Path, tiny: str, invoke: Invoke) -> None:
    common = ("predict", "photos", "-m", tiny, "--precision", "fp32", "-f", "jsonl")
    expected = [json.loads(line) for line in invoke(*common)[1].splitlines()]
    for options in (("--batch-size", "1"), ("-j", "2", "--batch-size", "3"), ("-j", "auto", "--batch-size", "auto")):
        actual = [json.loads(line) for line in invoke(*common, *options)[1].splitlines()]
        for one, other in zip(actual, expected, strict=True):
            assert one.pop("score") == pytest.approx(other["score"], abs=2e-6)
            assert one == {key: value for key, value in other.items() if key != "score"}
