"""What `sort`, `tag` and `report` have in common: how they read rows, find the images of these, and refuse others."""

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dinoclassify.cli import run
from dinoclassify.errors import UsageError
from dinoclassify.results import reader
from dinoclassify.results.reader import latest_predictions, read_predictions
from dinoclassify.storage.signature import same_signature
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS, Cli
from tests.helpers.memory import measured

TIMES = [1_795_461_854_804_786_711, 1_800_000_000_000_000_000, 7]  # jq 1.6 writes 1.8e+18 for the second


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row_of(path: str, label: str = "dog", score: float = 0.9, index: int = 1) -> Prediction:
    status = os.stat(path)
    return Prediction(path, "ok", (Label(label, index, score),), size=status.st_size, mtime_ns=status.st_mtime_ns)


def write_rows(name: str, rows: list[Prediction], made: str = "jsonl") -> None:
    row_format = open_format(made, 1)
    with open(name, "wb") as file:
        row_format.write(file, rows, {})


def rounded(content: bytes) -> bytes:
    """The rows as they come out of jq, whose numbers are doubles, long round ones with an exponent."""
    lines = [json.loads(line, parse_int=_double) for line in content.splitlines()]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _double(text: str) -> float:
    return float(text) if len(text.rstrip("0")) < 3 < len(text) else int(float(text))


@pytest.mark.parametrize("program", ["simulated", "jq"])
@pytest.mark.parametrize("command", [["sort", "-", "--into", "sorted"], ["tag", "-", "-f", "txt"]])
def test_rows_that_have_gone_through_jq_are_of_the_same_images(
    program: str, command: list[str], here: Path, cli: Cli
) -> None:
    if program == "jq" and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    for number, mtime_ns in enumerate(TIMES):
        Path(f"{number}.jpg").write_bytes(b"%d" % number)
        os.utime(f"{number}.jpg", ns=(mtime_ns, mtime_ns))
    write_rows("rows.jsonl", [row_of(f"{number}.jpg") for number in range(len(TIMES))])
    content = Path("rows.jsonl").read_bytes()
    filtered = (
        subprocess.run(["jq", "-c", "."], input=content, capture_output=True, check=True).stdout
        if (program == "jq")
        else rounded(content)
    )
    Path("filtered.jsonl").write_bytes(filtered)
    with open("filtered.jsonl", "rb") as stdin:
        done = cli(*command, stdin=stdin)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), done.stderr


@pytest.mark.parametrize("endless", [b"x" * (8 << 20), b'"' + b"x\n" * (4 << 20), b"{" + b" " * (8 << 20)])
def test_a_small_file_with_an_endless_row_takes_little_memory(
    endless: bytes, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_LONGEST", 1 << 16)
    header = b"" if endless.startswith(b"{") else open_format("csv", 1).lines.header()
    Path("rows.gz").write_bytes(gzip.compress(header + endless, 1))

    def read() -> None:
        with pytest.raises(UsageError, match=r"rows.gz is not what predict writes \(a row is over 65,536 bytes\)"):
            list(read_predictions("rows.gz"))

    assert measured(read)[0] < 4 << 20


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((5, TIMES[0]), (5, TIMES[0] + 1), True),
        ((5, TIMES[0]), (6, TIMES[0]), False),
        ((5, TIMES[0]), (5, TIMES[0] + 1_000), False),
        ((5, TIMES[0]), (5, 10**400), False),
        ((5, TIMES[0]), (5, None), False),
        ((5, None), (5, None), False),
        ((None, None), (None, None), True),
    ],
)
def test_times_are_equal_if_they_are_as_doubles(one: tuple[int, int], other: tuple[int, int], same: bool) -> None:
    assert same_signature(one, other) is same


def predicted(folder: str, *names: str) -> None:
    """A folder with images, and rows of them with the metadata that `predict` writes there."""
    Path(folder).mkdir(parents=True)
    rows = []
    for name in names:
        Path(folder, name).parent.mkdir(exist_ok=True)
        shutil.copy2(PHOTOS / "coffee.jpg", Path(folder, name))
        rows.append(replace(row_of(str(Path(folder, name))), path=name))
    write_rows(f"{folder}/labels.jsonl", rows)
    meta = {"working_folder": os.path.abspath(folder)}
    Path(f"{folder}/labels.jsonl.meta.json").write_text(json.dumps(meta))


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(list(arguments))
    return code, capsys.readouterr().err


def test_images_are_found_from_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted("a", "photos/x.jpg")
    Path("b").mkdir()
    monkeypatch.chdir("b")
    labels = "../a/labels.jsonl"
    assert call(capsys, "tag", labels)[0] == 0
    assert (here / "a/photos/x.jpg.xmp").exists()
    assert call(capsys, "tag", labels, "--into", "sidecars")[0] == 0
    assert Path("sidecars/photos/x.jpg.xmp").exists()
    assert call(capsys, "report", labels, "-o", "page.html", "--link")[0] == 0
    assert "../a/photos/x.jpg" in Path("page.html").read_text()
    assert call(capsys, "sort", labels, "--into", "sorted", "--mode", "move", "-v")[0] == 0
    assert Path("sorted/dog/x.jpg").exists()
    code, err = call(capsys, "sort", labels, "--into", "sorted", "--mode", "move")
    assert (code, err) == (0, "dinoclassify: 1 moved before -> sorted\n")
    assert call(capsys, "sort", "--undo", "sorted")[0] == 0
    code, err = call(capsys, "sort", labels, "--into", "others")
    assert code == 0
    (here / "a/photos/x.jpg").unlink()
    code, err = call(capsys, "tag", labels, "-f", "txt")
    assert (code, err.splitlines()[0]) == (3, "dinoclassify: photos/x.jpg is gone")


def test_a_copy_of_the_folder_where_the_working_folder_is_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted("a", "photos/x.jpg")
    os.rename("a", "b")
    monkeypatch.chdir("b")
    assert call(capsys, "sort", "labels.jsonl", "--into", "sorted")[0] == 0
    assert Path("sorted/dog/x.jpg").exists()


def test_an_image_in_both_folders_is_the_one_that_the_row_was_made_of(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted("a", "x.jpg", "y.jpg")
    shutil.copytree("a", "b")
    Path("a/x.jpg").write_bytes(b"another")
    monkeypatch.chdir("b")
    code, err = call(capsys, "sort", "labels.jsonl", "--into", "sorted", "--mode", "move")
    assert code == 0
    assert f"y.jpg is here and in {here}/a, where predict ran: files there are taken" in err
    assert sorted(os.listdir("sorted/dog")) == ["x.jpg", "y.jpg"]
    assert [sorted(Path(folder).glob("*.jpg")) for folder in ("../a", ".")] == [[Path("../a/x.jpg")], [Path("y.jpg")]]


@pytest.mark.parametrize("odd", [7, "relative", "/nowhere/at/all", "/\0", None, ["/"]])
def test_a_working_folder_that_is_none_does_no_harm(
    odd: object, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted("a", "x.jpg")
    Path("a/labels.jsonl.meta.json").write_text(json.dumps({"working_folder": odd}))
    monkeypatch.chdir("a")
    assert call(capsys, "sort", "labels.jsonl", "--into", "sorted")[0] == 0


@pytest.mark.parametrize("output", ["labels.csv", "labels.parquet", "labels.db", "parts/", "merged.jsonl"])
def test_every_kind_of_output_says_where_it_was_made(
    output: str, here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a/photos").mkdir(parents=True)
    Path("b").mkdir()
    shutil.copy(PHOTOS / "coffee.jpg", "a/photos")
    monkeypatch.chdir("a")
    if output == "merged.jsonl":
        for number in (1, 2):
            assert run(["predict", "photos", "-m", tiny, "--shard", f"{number}/2", "-o", f"{number}.jsonl"]) in (0, 4)
        parts = [name for name in ("1.jsonl", "2.jsonl") if Path(name).exists()]
        assert run(["merge", *parts, "-o", output, "--allow-gaps"]) == 0
    else:
        assert run(["predict", "photos", "-m", tiny, "-o", output]) == 0
    monkeypatch.chdir("../b")
    capsys.readouterr()
    code, err = call(capsys, "sort", f"../a/{output}", "--into", "sorted")
    assert (code, err.count("1 copied")) == (0, 1), err


def labelled(*labels: tuple[str, int]) -> None:
    """An image and a row of each label."""
    for label, _ in labels:
        Path(f"{label.split(',')[0]}.jpg").write_text(label)
    write_rows("labels.jsonl", [row_of(f"{label.split(',')[0]}.jpg", label, 0.9, index) for label, index in labels])


OF_IMAGENET = [("tench, Tinca tinca", 0), ("Egyptian cat", 285), ("tabby, tabby cat", 281)]


def test_only_some_labels_are_sorted_and_tagged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(*OF_IMAGENET)
    code, err = call(capsys, "sort", "labels.jsonl", "--into", "one", "--only", "egyptian_CAT", "--only", "tench")
    assert (code, "2 copied, 1 of other labels" in err) == (0, True)
    assert sorted(os.listdir("one")) == ["Egyptian cat", "tench", "undo-journal.jsonl"]
    code, err = call(capsys, "sort", "labels.jsonl", "--into", "two", "--groups", "everyday", "--only", "cat")
    assert (code, sorted(os.listdir("two/cat"))) == (0, ["Egyptian cat.jpg", "tabby.jpg"])
    code, err = call(capsys, "tag", "labels.jsonl", "--only", "tabby cat", "-f", "txt")
    assert (code, err) == (0, "dinoclassify: 3 rows: 1 sidecar written, 2 of other labels\n")
    assert [path.name for path in here.glob("*.txt")] == ["tabby.jpg.txt"]
    code, err = call(capsys, "tag", "labels.jsonl", "--only", "tench", "-f", "txt", "--remove")
    assert Path("tabby.jpg.txt").exists()


def test_of_a_row_with_many_labels_only_those_are_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.jpg").write_text("x")
    row = row_of("x.jpg", "dog", 0.6, 1)
    rows = [replace(row, top=(*row.top, Label("cat", 2, 0.3)))]
    Path("labels.jsonl").write_bytes(b"".join(map(open_format("jsonl", 2).lines.line, rows)))
    assert call(capsys, "tag", "labels.jsonl", "-f", "txt", "-k", "2", "--only", "cat")[0] == 0
    assert Path("x.jpg.txt").read_text() == "cat\n"
    layout = ["--layout", "{rank}/{label}/{name}"]
    assert call(capsys, "sort", "labels.jsonl", "--into", "ranks", "--only", "cat", *layout)[0] == 0
    assert sorted(os.listdir("ranks")) == ["2", "undo-journal.jsonl"]
    assert call(capsys, "sort", "labels.jsonl", "--into", "best", "--only", "cat")[1].count("1 of other labels") == 1


@pytest.mark.parametrize(
    ("labels", "arguments", "code", "message"),
    [
        (
            OF_IMAGENET,
            ["--only", "egyptian kat"],
            2,
            "egyptian kat (did you mean Egyptian cat?): there is no such label",
        ),
        (OF_IMAGENET, ["--only", "tenhc"], 2, "--only tenhc (did you mean tench, Tinca tinca?): "),
        (
            [*OF_IMAGENET, ("Egyptian cat", 285)],
            ["--only", "cat"],
            2,
            "--only cat (did you mean Egyptian cat?): there is no such label or group; sort --groups everyday has a "
            "group cat. See: dinoclassify ",
        ),
        ([("tom cat", 0), ("crate", 1)], ["--only", "Cat"], 0, "--only Cat (did you mean tom cat?): no row has it\n"),
        (OF_IMAGENET, ["--only", "goldfish"], 0, "--only goldfish: no row has it\n"),
        (OF_IMAGENET, ["--only", " "], 2, "--only: name a label or a group"),
        (
            [("red", 0), ("blue", 1)],
            ["--only", "bleu", "--only", "red"],
            0,
            "--only bleu (did you mean blue?): no row has it",
        ),
        ([("fish", 0)], ["--only", "brid"], 2, "did you mean bird?"),
        ([("dog", 0)], ["--only", "dog", "--failed-to", "x"], 2, "leave out --failed-to"),
        (OF_IMAGENET, ["--only", "cats", "--groups", "everyday"], 2, "did you mean cat?"),
    ],
)
def test_names_that_no_label_has(
    labels: list[tuple[str, int]],
    arguments: list[str],
    code: int,
    message: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled(*labels)
    done, err = call(capsys, "sort", "labels.jsonl", "--into", "sorted", *arguments)
    assert (done, message in err) == (code, True), err
    if not {"--groups", "--failed-to"} & {*arguments}:
        done, err = call(capsys, "tag", "labels.jsonl", *arguments)
        assert (done, message in err) == (code, True), err


def test_a_name_that_no_row_of_stdin_has(here: Path, cli: Cli) -> None:
    labelled(("red", 0), ("blue", 1))
    with open("labels.jsonl", "rb") as stdin:
        done = cli("sort", "-", "--into", "sorted", "--only", "bleu", stdin=stdin)
    assert done.returncode == 0
    assert b"--only bleu (did you mean blue?): no row has it" in done.stderr


@pytest.mark.parametrize(("made", "header"), [("csv", b"path,status"), ("tsv", b"path\tstatus"), ("jsonl", b"")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_that_a_spreadsheet_has_saved_are_the_same(mark: bytes, made: str, header: bytes, here: Path) -> None:
    for name in ("x.jpg", "a,b\r\nc.jpg"):
        Path(name).write_text(name)
    rows = [row_of("x.jpg", "tabby, cat"), row_of("a,b\r\nc.jpg")]
    write_rows("labels", rows, made)
    content = Path("labels").read_bytes()
    assert content.startswith(header)
    lines = content.replace(b"\r\n", b"<>").replace(b"\n", b"\r\n").replace(b"<>", b"\r\n")
    Path("saved").write_bytes(mark + lines)
    assert list(read_predictions("saved")) == rows
    Path("saved").write_bytes(mark + lines.removesuffix(b"\r\n"))
    assert list(read_predictions("saved")) == rows
    if made != "jsonl":
        head, _, rest = lines.partition(b"\r\n")
        quoted = b"\r\n".join([head.replace(b"path", b'"path"', 1), rest])
        Path("saved").write_bytes(mark + quoted)
        assert list(read_predictions("saved")) == rows


@pytest.mark.parametrize(
    ("mark", "end", "why"),
    [(b"\xef\xbb\xbf", b"\n", "begins with a byte order mark"), (b"", b"\r\n", "lines end in CRLF")],
)
def test_rows_that_a_spreadsheet_has_saved_are_not_gone_on_with_or_merged(
    mark: bytes, end: bytes, why: str, here: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(PHOTOS, "photos")
    predict = ["predict", "photos", "-m", tiny, "-o", "labels.csv", "-q"]
    assert run(predict) == 0
    saved = mark + Path("labels.csv").read_bytes().replace(b"\n", end)
    Path("labels.csv").write_bytes(saved)
    for command in ([*predict, "--resume"], ["merge", "labels.csv", "-o", "all.csv"]):
        assert run(command) == 2
        err = capsys.readouterr().err
        assert (err.startswith("dinoclassify: another program has saved labels.csv, it"), why in err) == (True, True)
        assert err.count("\n") == 1
    assert Path("labels.csv").read_bytes() == saved
    assert run(["sort", "labels.csv", "--into", "sorted", "-q"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos", "photos is a folder: name the file of its rows, as predict photos -o labels.csv writes it"),
        ("label.jsonl", "label.jsonl is not there: did you mean labels.jsonl?"),
        ("nowhere/x.csv", "nowhere/x.csv is not there: check its name"),
        ("~/labels.csv", "~/labels.csv is not there: the shell expands ~ only outside quotes"),
        ("notes.txt", "notes.txt is not what predict writes (it does not begin with the columns path,status"),
        ("photos/x.jpg", "an image: predict photos/x.jpg -o labels.csv labels it"),
        ("labels.jsonl.meta.json", "but its metadata: name labels.jsonl"),
        ("features.npz", "but what embed writes: it has no labels"),
        ("/dev/null", "/dev/null is no regular file: name one, or - for rows on stdin\n"),
        ("image", "image is not what predict writes, but no UTF-8 text: name the file that predict -o has written"),
        ("utf-16.csv", "utf-16.csv is not what predict writes, but no UTF-8 text: "),
        ("features.parquet", "is not what predict writes (it has the features that embed writes, and no labels)"),
    ],
)
@pytest.mark.parametrize("command", [["sort", "--into", "x"], ["tag"], ["report", "-o", "x"]])
def test_what_is_no_file_of_rows_is_one_line(
    command: list[str], name: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Path("photos/x.jpg")
    image.parent.mkdir()
    for file in (image, *map(Path, ("labels.jsonl", "notes.txt", "labels.jsonl.meta.json", "features.npz"))):
        file.write_text("hello\n")
    Path("image").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    Path("utf-16.csv").write_text("path,status,label,score", encoding="utf-16")
    pq.write_table(pa.table({"path": ["x"], "features": [[1.0]]}), "features.parquet")
    code, err = call(capsys, *command, name)
    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert not Path("x").exists()


def test_of_several_rows_of_an_image_the_last_counts_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["a.jpg", "b.jpg", "./a.jpg", f"{tmp_path}/a.jpg", "b.jpg", "a.zip!a.jpg"]
    rows = [Prediction(path, "ok", (Label("cat", number, 0.75),)) for number, path in enumerate(paths)]
    with open("rows.csv", "wb") as file:
        open_format("csv", 1).write(file, rows, {})
    assert [row.index for row in latest_predictions("rows.csv")] == [3, 4, 5]
    Path("rows.csv.meta.json").write_text(json.dumps({"working_folder": "/elsewhere"}))
    assert [row.index for row in latest_predictions("rows.csv")] == [2, 3, 4, 5]
