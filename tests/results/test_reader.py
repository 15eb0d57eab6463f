"""What `sort`, `tag` and `report` have in common: which files of rows they read, and which they refuse."""

import gzip
import json
import os
import shutil
import subprocess
import termios
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import ioctl
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
from tests.helpers.images import image
from tests.helpers.invoke import Invoke
from tests.helpers.memory import measured
from tests.helpers.rows import row_of, write_rows

TIMES = [1_795_461_854_804_786_711, 1_800_000_000_000_000_000, 7]  # jq 1.6 writes 1.8e+18 for the second


@pytest.fixture
def slow_stdin() -> Iterator[Callable[[bytes], None]]:
    """Make stdin a pipe, which has one byte at a time at first: the next comes when nothing is left to read."""
    before = os.dup(0)
    threads: list[threading.Thread] = []

    def give(content: bytes) -> None:
        source, sink = os.pipe()
        os.dup2(source, 0)
        os.close(source)

        def write() -> None:
            with suppress(BrokenPipeError), open(sink, "wb", buffering=0) as pipe:
                for at in range(min(len(content), 9)):
                    pipe.write(content[at : at + 1])
                    for _ in range(1000):  # at most a second
                        if not array("i", ioctl(sink, termios.FIONREAD, bytes(4)))[0]:
                            break
                        time.sleep(0.001)
                pipe.write(content[9:])

        threads.append(threading.Thread(target=write))
        threads[0].start()

    yield give
    os.dup2(before, 0)
    os.close(before)
    for thread in threads:
        thread.join()


def rounded(content: bytes) -> bytes:
    """The rows as they come out of jq, whose numbers are doubles, long round ones with an exponent."""
    lines = [json.loads(line, parse_int=_double) for line in content.splitlines()]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _double(text: str) -> float:
    return float(text) if len(text.rstrip("0")) < 3 < len(text) else int(float(text))


@pytest.mark.parametrize("program", ["simulated", "jq"])
@pytest.mark.parametrize("command", [["sort", "-", "--into", "sorted"], ["tag", "-", "-f", "txt"]])
def test_rows_filtered_by_jq_still_match_their_images(program: str, command: list[str], here: Path, cli: Cli) -> None:
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
def test_endless_row_is_refused_with_little_memory(endless: bytes, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_LONGEST", 1 << 16)
    header = b"" if endless.startswith(b"{") else open_format("csv", 1).lines.header()
    Path("rows.gz").write_bytes(gzip.compress(header + endless, 1))

    def read() -> None:
        with pytest.raises(UsageError, match=r"rows.gz is not what predict writes \(a row is over 65,536 bytes\)"):
            list(read_predictions("rows.gz"))

    assert measured(read, below=4 << 20)[0] < 4 << 20


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
def test_times_match_within_the_precision_of_a_double(one: tuple[int, int], other: tuple[int, int], same: bool) -> None:
    assert same_signature(one, other) is same


@pytest.mark.parametrize(("made", "header"), [("csv", b"path,status"), ("tsv", b"path\tstatus"), ("jsonl", b"")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_saved_by_a_spreadsheet_are_read(mark: bytes, made: str, header: bytes, here: Path) -> None:
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
    ("made", "mark"),
    [
        ("csv", b"\xef\xbb\xbf"),
        ("csv.gz", b"\xef\xbb\xbf"),
        ("jsonl", b""),
        ("jsonl.gz", b""),
        ("parquet", b""),
        ("sqlite", b""),
    ],
)
def test_rows_are_read_from_a_pipe_that_gives_one_byte_at_a_time(
    made: str, mark: bytes, here: Path, slow_stdin: Callable[[bytes], None]
) -> None:
    rows = [row_of(image("x.jpg"), "tabby, cat"), row_of(image("y.jpg"))]
    write_rows("labels", rows, made)
    content = Path("labels").read_bytes()
    slow_stdin(gzip.compress(mark + gzip.decompress(content)) if made.endswith(".gz") else mark + content)
    assert list(read_predictions("-")) == rows


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"{", b"path"])
def test_a_pipe_that_ends_at_once_has_no_rows_or_is_refused(
    content: bytes, slow_stdin: Callable[[bytes], None]
) -> None:
    slow_stdin(content)
    if content.isascii() and content:
        with pytest.raises(UsageError, match="stdin is not what predict writes"):
            list(read_predictions("-"))
    else:
        assert list(read_predictions("-")) == []


@pytest.mark.parametrize(
    ("mark", "end", "why"),
    [(b"\xef\xbb\xbf", b"\n", "begins with a byte order mark"), (b"", b"\r\n", "lines end in CRLF")],
)
def test_rows_saved_by_a_spreadsheet_are_not_resumed_or_merged(
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
        assert (
            err.startswith("dinoclassify: another program, such as a spreadsheet, saved labels.csv (it"),
            why in err,
        ) == (True, True)
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
        (
            "features.parquet",
            "is not what predict writes (it has the features that embed writes, and no labels): "
            "name the file that predict -o has written\n",
        ),
    ],
)
@pytest.mark.parametrize("command", [["sort", "--into", "x"], ["tag"], ["report", "-o", "x"]])
def test_files_without_rows_are_refused_in_one_line(
    command: list[str], name: str, message: str, here: Path, invoke: Invoke
) -> None:
    image = Path("photos/x.jpg")
    image.parent.mkdir()
    for file in (image, *map(Path, ("labels.jsonl", "notes.txt", "labels.jsonl.meta.json", "features.npz"))):
        file.write_text("hello\n")
    Path("image").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    Path("utf-16.csv").write_text("path,status,label,score", encoding="utf-16")
    pq.write_table(pa.table({"path": ["x"], "features": [[1.0]]}), "features.parquet")
    code, _, err = invoke(*command, name)
    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert not Path("x").exists()


def test_last_row_of_an_image_counts_however_its_path_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["a.jpg", "b.jpg", "./a.jpg", f"{tmp_path}/a.jpg", "b.jpg", "a.zip!a.jpg"]
    rows = [Prediction(path, "ok", (Label("cat", number, 0.75),)) for number, path in enumerate(paths)]
    with open("rows.csv", "wb") as file:
        open_format("csv", 1).write(file, rows, {})
    assert [row.index for row in latest_predictions("rows.csv")] == [3, 4, 5]
    Path("rows.csv.meta.json").write_text(json.dumps({"working_folder": "/elsewhere"}))
    assert [row.index for row in latest_predictions("rows.csv")] == [2, 3, 4, 5]


def test_rows_on_stdin_have_no_metadata(here: Path, stdin: Callable[[bytes], None]) -> None:
    """An apostrophe stays, because it may belong to the name; a file called - has nothing to do with it."""
    rows = [row_of(image("'=x.jpg"))]
    write_rows("-", rows, "csv")
    Path("-.meta.json").write_text(json.dumps({"made_with": {"format": "excel"}}))
    stdin(Path("-").read_bytes())
    assert list(read_predictions("-")) == rows
