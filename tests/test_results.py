"""What `sort`, `tag` and `report` have in common: how they read rows, find the images of these, and refuse others."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Cli

from dinoclassify.files import same_signature
from dinoclassify.rows import Label, Prediction
from dinoclassify.writers import open_format

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
        if row_format.table is not None:
            row_format.table.write(file, rows)
        else:
            file.write(row_format.lines.header() + b"".join(map(row_format.lines.line, rows)))


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


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((5, TIMES[0]), (5, TIMES[0] + 1), True),
        ((5, TIMES[0]), (6, TIMES[0]), False),
        ((5, TIMES[0]), (5, TIMES[0] + 1_000), False),
        ((5, TIMES[0]), (5, 10**400), False),
        ((5, TIMES[0]), (5, None), False),
        ((None, None), (None, None), True),
    ],
)
def test_times_are_equal_if_they_are_as_doubles(one: tuple[int, int], other: tuple[int, int], same: bool) -> None:
    assert same_signature(one, other) is same
