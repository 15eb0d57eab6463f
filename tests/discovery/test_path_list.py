"""Lists and tables of paths: from files and from standard input."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.existence import is_gone
from dinoclassify.discovery.filters import Filters
from dinoclassify.errors import UsageError
from dinoclassify.storage.elsewhere import is_elsewhere
from dinoclassify.storage.reader import with_signatures
from dinoclassify.storage.remote import opening
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source
from tests.helpers.image_tree import found


@pytest.mark.parametrize(
    ("content", "null", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", False, ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\n\nb.jpg", False, ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", False, ["a.jpg"]),
        (b"new\nline.jpg\0cr\r\0\0b.jpg", True, ["new\nline.jpg", "cr\r", "b.jpg"]),
        (b"bad\xff.jpg\n", False, ["bad\udcff.jpg"]),
        (b" lead.jpg \n#x.jpg\n*.jpg\n", False, [" lead.jpg ", "#x.jpg", "*.jpg"]),
        (b"", False, []),
    ],
)
def test_lists_of_paths_are_read_from_files_and_stdin(
    tmp_path: Path, content: bytes, null: bool, expected: list[str]
) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert found(files_from=str(tmp_path / "list.txt"), null=null) == expected
    code = f"from dinoclassify.discovery.discover import *; print([s.path for s in discover(['-'], null={null})])"
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert done.stdout.decode() == f"{expected}\n"


def test_a_null_separated_list_without_0_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a.jpg\0b.jpg\0")
    with pytest.raises(UsageError, match="add -0"):
        found(files_from=str(tmp_path / "list"))


def test_a_list_on_stdin_streams() -> None:
    code = (
        "from dinoclassify.discovery.discover import *\nfor s in discover(['-'], null=True): print(s.path, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in (b"a.jpg", b"b.jpg"):
            process.stdin.write(name + b"\0")
            process.stdin.flush()
            assert process.stdout.readline() == name + b"\n"
        process.stdin.close()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_paths_are_read_from_a_column_of_a_table(tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    table = pd.DataFrame({"path": ["NA", "a,b.jpg", "007", 'q".jpg'], "other": ["1.jpg", "2.jpg", "", "4.jpg"]})
    name = str(tmp_path / f"table{suffix}")
    table.to_csv(name, index=False) if suffix == ".csv" else table.to_parquet(name)
    assert found(files_from=name) == ["NA", "a,b.jpg", "007", 'q".jpg']
    assert [source.path for source in discover([], files_from=name, column="other")] == ["1.jpg", "2.jpg", "4.jpg"]
    with pytest.raises(UsageError, match="has no column image; choose one with --column: path, other"):
        list(discover([], files_from=name, column="image"))


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("gone.txt", None, "gone.txt is not there: check its name"),
        ("gone.csv", None, "gone.csv is not there: check its name"),
        ("empty.csv", None, "empty.csv is not a CSV table .No columns to parse from file.: save it again as CSV"),
        ("text.parquet", None, "text.parquet is not a Parquet table"),
        ("list.txt", "path", "--column needs a .csv or .parquet table, not list.txt"),
        (".", None, ". is a folder, not a list: name it among PATHS"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, column: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("text.parquet").write_text("no table")
    Path("list.txt").write_text("a.jpg")
    with pytest.raises(UsageError, match=message):
        list(discover([], files_from=name, column=column))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:2121/a.jpg",
        "FTP://127.0.0.1/a.zip",
        "ftp://127.0.0.1/a.tar.gz!a.jpg",
        "webhdfs://127.0.0.1/a.jpg",
        "file:///etc/passwd",
        "local:///etc/passwd",
        "memory://x/a.jpg",
        "zip://a.jpg::http://127.0.0.1/a.zip",
        "simplecache::ftp://127.0.0.1/a.jpg",
        " ftp://127.0.0.1/a.jpg",
    ],
)
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_lists_cannot_name_other_url_schemes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setattr(opening, "open_filesystem", lambda url, *_: pytest.fail(f"connects to {url}"))
    (tmp_path / name).write_text(f"path\n{url}\n" if name.endswith(".csv") else f"{url}\n")
    (source,) = with_signatures(discover([], files_from=str(tmp_path / name)))
    assert source.path == url
    assert not is_elsewhere(source)
    if is_url(url):
        scheme = url.partition(":")[0].lower()
        message = f"lists may not name {scheme}:// URLs: name it on the command line"
        assert (source.content, source.signature) == (Failure("unreadable", message), (None, None))
    assert not (is_url(url) and is_gone(url)), "--prune does not ask either"


def test_lists_may_name_web_and_object_store_urls(tmp_path: Path) -> None:
    urls = ["https://a.org/a.jpg", "HTTP://a.org/a.jpg", "s3://b/a.jpg", "gs://b/a.jpg", "abfss://c@d/a.jpg"]
    (tmp_path / "list").write_text("\n".join([*urls, "ftp://a.org/a.png"]))
    sources = list(discover([], Filters(exclude=["*.png"]), files_from=str(tmp_path / "list")))
    assert sources == [Source(url) for url in urls]


def test_a_trailing_comma_does_not_shift_the_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,cat,\nb.jpg,dog,\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas says that it leaves out what has no column
        assert found(files_from=str(tmp_path / "t.csv")) == ["a.jpg", "b.jpg"]


def test_tables_may_hold_any_bytes_but_must_hold_text(tmp_path: Path) -> None:
    import pandas as pd

    (tmp_path / "t.csv").write_bytes(b"path\nbad\xff.jpg\n")
    assert found(files_from=str(tmp_path / "t.csv")) == ["bad\udcff.jpg"]
    pd.DataFrame({"path": [["a"], ["b"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="is not a Parquet table with text in the column path"):
        found(files_from=str(tmp_path / "t.parquet"))
