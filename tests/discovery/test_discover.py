"""What counts as an input, and in which order inputs come."""

import errno
import itertools
import logging
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.discovery.discover import discover, find
from dinoclassify.discovery.existence import is_gone
from dinoclassify.discovery.filters import Filters, InputSelector, Shard, describe_passed_over
from dinoclassify.discovery.roots import check_disks, check_roots
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.storage.fetcher import is_elsewhere
from dinoclassify.storage.reader import with_signatures
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in."""
    return fill(tmp_path, monkeypatch)


@pytest.fixture
def shown_tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, which other users reach: pytest closes the folders above its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield fill(Path(folder), monkeypatch)
        monkeypatch.undo()


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/notes.txt",
        "photos/.hidden.jpg",
        "photos/.cache/c.jpg",
        "photos/2024/d.webp",
        "photos/2024/raw/e.jpg",
        "photos/[1].jpg",
        "-rf.jpg",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(folder)
    return folder


def found(*paths: str, filters: Filters | None = None, files_from: str | None = None, null: bool = False) -> list[str]:
    return [source.path for source in discover(paths, filters, files_from=files_from, null=null)]


ALL = ["photos/2024/d.webp", "photos/2024/raw/e.jpg", "photos/[1].jpg", "photos/a.PNG", "photos/b.jpg"]


def test_a_folder_is_walked_by_name_to_the_bottom(tree: Path) -> None:
    assert found("photos") == ALL


def test_the_prefix_stays_as_it_was_typed(tree: Path) -> None:
    assert found("photos/") == ALL
    assert found("./photos/2024/") == ["./photos/2024/d.webp", "./photos/2024/raw/e.jpg"]
    assert found(str(tree / "photos/2024/raw")) == [str(tree / "photos/2024/raw/e.jpg")]
    assert "./photos/b.jpg" in found(".")


def test_named_paths_are_tried_whatever_they_are(tree: Path) -> None:
    names = ["photos/notes.txt", "photos/.hidden.jpg", "nowhere.jpg", "photos/b.jpg", "photos/b.jpg", "-rf.jpg"]
    assert found(*names) == names


def test_hidden_entries_on_demand(tree: Path) -> None:
    hidden = set(found("photos", filters=Filters(hidden=True))) - set(ALL)
    assert hidden == {"photos/.hidden.jpg", "photos/.cache/c.jpg"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["photos/[1].jpg", "photos/b.jpg"]),
        ("photos/**/*.jpg", ["photos/[1].jpg", "photos/b.jpg", "photos/2024/raw/e.jpg"]),
        ("photos/**", ["photos/[1].jpg", "photos/a.PNG", "photos/b.jpg", "photos/notes.txt", *ALL[:2]]),
        ("**/raw/?.jpg", ["photos/2024/raw/e.jpg"]),
        ("photos/*/raw/e.jpg", ["photos/2024/raw/e.jpg"]),
        ("photos/20*", ["photos/2024/d.webp", "photos/2024/raw/e.jpg"]),
        ("photos/2024/*/", ["photos/2024/raw/e.jpg"]),
        ("photos/[ab].*", ["photos/a.PNG", "photos/b.jpg"]),
        ("photos/[!ab]*.jpg", ["photos/[1].jpg"]),
        ("photos/[^ab]*.jpg", ["photos/[1].jpg"]),
        ("photos/**/**/*.jpg", ["photos/[1].jpg", "photos/b.jpg", "photos/2024/raw/e.jpg"]),
        ("photos/.h*", ["photos/.hidden.jpg"]),
        ("./photos/b*", ["./photos/b.jpg"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(found(pattern)) == sorted(expected)
    assert found(f"{tree}/{pattern}") == [f"{tree}/{path}" for path in found(pattern)]


def test_a_file_named_like_a_glob_is_that_file(tree: Path) -> None:
    assert found("photos/[1].jpg") == ["photos/[1].jpg"]


def test_a_glob_without_matches_is_said(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert found("photos/*.heic") == []
    assert caplog.messages == ["nothing matches photos/*.heic"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.jpg"], [], ["photos/2024/raw/e.jpg", "photos/[1].jpg", "photos/b.jpg"]),
        ([], ["*.jpg"], ["photos/2024/d.webp", "photos/a.PNG"]),
        ([], ["2024/"], ALL[2:]),
        ([], ["/raw"], ALL),  # anchored: there is no raw in the folder named
        ([], ["raw"], [ALL[0], *ALL[2:]]),
        (["2024/"], ["*.webp"], ["photos/2024/raw/e.jpg"]),
        (["*.jpg", "!b.*"], [], ["photos/2024/raw/e.jpg", "photos/[1].jpg"]),
    ],
)
def test_include_and_exclude(tree: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    assert found("photos", filters=Filters(include, exclude)) == expected


def test_include_and_exclude_hold_for_named_paths_and_globs(tree: Path) -> None:
    filters = Filters(exclude=["*.PNG"])
    assert found("photos/a.PNG", "photos/b.jpg", "photos/[ab].*", filters=filters) == ["photos/b.jpg", "photos/b.jpg"]


def test_links_to_folders_are_followed_on_demand_and_never_in_circles(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tree / "photos/2024/loop").symlink_to(tree / "photos")
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/f.jpg").touch()
    (tree / "photos/more").symlink_to(tree / "elsewhere")
    (tree / "photos/link.jpg").symlink_to("b.jpg")
    (tree / "photos/broken.jpg").symlink_to("gone")
    (tree / "photos/folder.jpg").symlink_to(tree / "elsewhere")
    links = ["photos/broken.jpg", "photos/link.jpg"]
    assert found("photos") == sorted([*ALL, *links])
    followed = found("photos", filters=Filters(follow=True))
    assert followed == sorted([*ALL, *links, "photos/folder.jpg/f.jpg", "photos/more/f.jpg"])
    assert caplog.messages == ["photos/2024/loop links to a folder above itself and is not entered again"]
    assert found("photos/**/e.jpg") == ["photos/2024/raw/e.jpg"]


def test_a_link_to_itself_is_an_input(tree: Path) -> None:
    (tree / "photos/self.jpg").symlink_to("self.jpg")
    for follow in (False, True):
        assert found("photos", filters=Filters(follow=follow)) == sorted([*ALL, "photos/self.jpg"])
    assert found("photos/s*.jpg") == ["photos/self.jpg"]
    assert found("photos/s*.jpg/x") == []


def test_folders_may_lie_as_deep_as_the_system_lets_them(tree: Path) -> None:
    folders = ["/".join("d" * depth) for depth in range(1, 1200)]
    for folder in folders:
        os.mkdir(folder)
    deep = f"{folders[-1]}/x.jpg"
    open(deep, "w").close()
    walked, matched = found("d"), found("d/**/*.jpg")
    os.unlink(deep)
    for folder in reversed(folders):  # pytest's own cleaning does not reach that deep
        os.rmdir(folder)
    assert walked == matched == [deep]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
def test_an_unreadable_folder_is_an_input_of_its_own(shown_tree: Path) -> None:
    (shown_tree / "photos/2024").chmod(0)
    code = (
        "import os; from dinoclassify.discovery.discover import *; os.setuid(65534);"
        "print(*(s.path for s in discover(['photos'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["photos/2024", *ALL[2:]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
def test_an_unreadable_folder_that_a_glob_has_to_list_is_an_input_of_its_own(shown_tree: Path) -> None:
    (shown_tree / "photos/2024").chmod(0)
    below = ["photos/[1].jpg", "photos/b.jpg"]
    expected = {
        "photos/**/*.jpg": [*below, "photos/2024"],
        "photos/**/raw/**/*.jpg": ["photos/2024"],
        "*/*/*": ["photos/2024"],
        "photos/2024/raw/*.jpg": ["photos/2024/raw"],  # whether it is there cannot be seen
        "photos/*": ["photos/2024", "photos/[1].jpg", "photos/a.PNG", "photos/b.jpg", "photos/notes.txt"],
        "photos/*.jpg": below,
        "photos/*/d.webp": ["photos/2024/d.webp"],  # lists only what may be listed, and cannot see this
    }
    code = (
        "import sys, os; from tests.discovery.test_discover import *; os.setuid(65534);"
        "print({pattern: found(pattern) for pattern in sys.argv[1:]},"
        "found('photos/**/*.jpg', filters=Filters(exclude=['2024/'])))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *expected]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    (shown_tree / "photos/2024").chmod(0o755)
    assert (done.stdout, done.stderr) == (f"{expected} {below}\n", "")


def test_shards_are_disjoint_complete_and_do_not_depend_on_order(tree: Path) -> None:
    parts = [found("photos", filters=Filters(shard=Shard(index, 3))) for index in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == ALL
    assert found(*reversed(ALL), filters=Filters(shard=Shard(1, 3))) == parts[0][::-1]
    assert "photos/b.jpg" in Shard(9, 16), "fixed for ever: a run may be repeated by a later version"


def test_shards_are_about_equal() -> None:
    names = [f"photos/{number:06}.jpg" for number in range(16_000)]
    counts = [sum(name in Shard(index, 16) for name in names) for index in range(1, 17)]
    assert min(counts) > 850
    assert max(counts) < 1150


def test_limit_takes_the_first(tree: Path) -> None:
    assert found("photos", filters=Filters(limit=2)) == ALL[:2]
    assert found("photos", filters=Filters(limit=10**30)) == ALL


def test_discovery_is_lazy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = discover(["photos", "photos/**/*"])
    assert next(sources).path == ALL[0]
    (tree / "photos/z.jpg").touch()  # the folder being walked has been read, the ones after it have not
    assert "photos/z.jpg" not in [next(sources).path for _ in ALL[1:]]
    assert "photos/z.jpg" in [source.path for source in sources]


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
def test_lists(tmp_path: Path, content: bytes, null: bool, expected: list[str]) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert found(files_from=str(tmp_path / "list.txt"), null=null) == expected
    code = f"from dinoclassify.discovery.discover import *; print([s.path for s in discover(['-'], null={null})])"
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert done.stdout.decode() == f"{expected}\n"


def test_a_null_separated_list_read_by_line_is_told_apart(tmp_path: Path) -> None:
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
def test_tables(tmp_path: Path, suffix: str) -> None:
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
        ("gone.txt", None, "cannot read the list gone.txt: it is not there"),
        ("gone.csv", None, "cannot read the list gone.csv: it is not there"),
        ("empty.csv", None, "empty.csv is not a CSV table"),
        ("text.parquet", None, "text.parquet is not a Parquet table"),
        ("list.txt", "path", "--column needs a .csv or .parquet table, not list.txt"),
        (".", None, ". is a folder, not a list: name it among PATHS"),
    ],
)
def test_lists_that_cannot_be_read(
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
def test_lists_reach_no_other_schemes_than_those_of_the_web_and_of_object_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setattr(object_store, "_open", lambda url, *_: pytest.fail(f"connects to {url}"))
    (tmp_path / name).write_text(f"path\n{url}\n" if name.endswith(".csv") else f"{url}\n")
    (source,) = with_signatures(discover([], files_from=str(tmp_path / name)))
    assert source.path == url
    assert not is_elsewhere(source)
    if is_url(url):
        scheme = url.partition(":")[0].lower()
        message = f"lists may not name {scheme}:// URLs: name it on the command line"
        assert (source.content, source.signature) == (Failure("unreadable", message), (None, None))
    assert not (is_url(url) and is_gone(url)), "--prune does not ask either"


def test_lists_may_name_the_web_and_object_stores_and_have_their_patterns(tmp_path: Path) -> None:
    urls = ["https://a.org/a.jpg", "HTTP://a.org/a.jpg", "s3://b/a.jpg", "gs://b/a.jpg", "abfss://c@d/a.jpg"]
    (tmp_path / "list").write_text("\n".join([*urls, "ftp://a.org/a.png"]))
    sources = list(discover([], Filters(exclude=["*.png"]), files_from=str(tmp_path / "list")))
    assert sources == [Source(url) for url in urls]


def test_the_command_line_may_name_any_scheme() -> None:
    fs, path = object_store.filesystem("memory://scheme/a.jpg")
    fs.pipe_file(path, b"content")
    assert [source.content for source in discover(["memory://scheme/a.jpg"])] == [None]


def test_a_comma_too_many_does_not_shift_the_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,cat,\nb.jpg,dog,\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas says that it leaves out what has no column
        assert found(files_from=str(tmp_path / "t.csv")) == ["a.jpg", "b.jpg"]


def test_tables_of_any_bytes_and_of_no_text(tmp_path: Path) -> None:
    import pandas as pd

    (tmp_path / "t.csv").write_bytes(b"path\nbad\xff.jpg\n")
    assert found(files_from=str(tmp_path / "t.csv")) == ["bad\udcff.jpg"]
    pd.DataFrame({"path": [["a"], ["b"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="is not a Parquet table with text in the column path"):
        found(files_from=str(tmp_path / "t.parquet"))


def test_options_of_lists_need_a_list(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"--column: there are no .parquet or .arrow tables in photos"):
        next(discover(["photos"], column="x"))
    with pytest.raises(UsageError, match=r"--column goes with tables, .parquet or .arrow, and with --files-from"):
        next(discover(["photos/a.jpg"], column="x"))
    with pytest.raises(UsageError, match="-0 goes with a list"):
        discover(["photos"], null=True)


def test_files_from_comes_after_the_paths(tree: Path) -> None:
    (tree / "list.txt").write_text("x.jpg")
    assert found("photos/b.jpg", files_from="list.txt") == ["photos/b.jpg", "x.jpg"]


def test_nothing_is_logged_on_a_plain_walk(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found("photos", "photos/**/*.jpg")
    assert caplog.messages == []


def test_where_a_disk_was_is_another_device_when_it_goes_away(tree: Path) -> None:
    disks: dict[int, str] = {}
    rules = InputSelector(Filters(), disks=disks)
    assert list(find(["photos", "*.png", "photos/*.jpg", "gone.jpg"], rules))
    device = tree.stat().st_dev
    assert disks == {device: "photos"}
    check_disks(disks)
    check_disks({device: "photos/none/below"})  # a folder that was deleted or moved
    for gone in ({device + 1: "photos"}, {device + 1: "photos/none"}):
        with pytest.raises(NoInputsError, match=r"^photos(/none)? went away during the run; is its disk mounted\?$"):
            check_disks(gone)


def away(*paths: str) -> str:
    """Why one of these is away; empty if all are there, or get a row."""
    try:
        check_roots(paths, InputSelector(Filters()))
    except NoInputsError as error:
        return str(error)
    return ""


def test_what_is_there_or_gets_a_row_is_not_away(tree: Path) -> None:
    Path("photos/link").symlink_to("2024")
    Path("photos/broken.jpg").symlink_to("gone")
    names = ["photos", "photos/", ".", "photos/link", "photos/link/", "photos/broken.jpg", "photos/notes.txt"]
    assert away(*names, "-", "photos/*", "photos/**/e.jpg", "photos/[1].jpg") == ""
    assert away("x.jpg", "x.TIFF", "x.tar.gz", "x.zip", "x.parquet", "x.zip!y", "photos/b.jpg/x.jpg") == ""
    assert away("https://example.org/photos/", "http://[::1") == ""


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nowhere"], "nowhere is not there: check its name, or mount its disk"),
        (["photos", "nowhere/"], "nowhere/ is not there: check its name, or mount its disk"),
        (["photo"], "photo is not there: did you mean photos?"),
        (["photos/b.jgp"], "photos/b.jgp is not there: did you mean photos/b.jpg?"),
        (["mnt/nas/photos"], "mnt/nas/photos is not there: mnt/nas is empty; is its disk mounted?"),
        (["away"], "away links to /nowhere/at/all, which is not there: check its name, or mount its disk"),
        (["away/"], "away/ links to /nowhere/at/all, which is not there: check its name, or mount its disk"),
        (["-rf.jpg/photos"], "-rf.jpg/photos is not there: -rf.jpg is a file, not a folder"),
        (["photos/b.jpg/"], "photos/b.jpg/ is a file, not a folder: leave out the / at its end"),
        (["circle"], "circle cannot be reached (Too many levels of symbolic links): mend it, or leave it out"),
        (["x" * 300], f"{'x' * 300} cannot be reached (File name too long): mend it, or leave it out"),
        (["photos/*.heic"], "nothing matches photos/*.heic: check the pattern"),
        (["mnt/*/*.jpg"], "nothing matches mnt/*/*.jpg: check the pattern"),
        (["far/**/*.jpg"], "nothing matches far/**/*.jpg: far is not there: check its name, or mount its disk"),
        (["*.heic"], "nothing matches *.heic: check the pattern"),
        (["photos", "my", "photos"], "my is not there, but 'my photos' is: quote a name that has blanks in it"),
        (["our", "own", "x.jpg"], "our is not there, but 'our own x.jpg' is: quote a name that has blanks in it"),
        (["photos", "2024"], "2024 is not there, but 'photos 2024' is: quote a name that has blanks in it"),
        (
            ["~/x"],
            "~/x is not there: the shell expands ~ only outside quotes; write /home/me/x, or leave out the quotes",
        ),
    ],
)
def test_a_root_that_is_away_is_named_with_the_reason_and_the_cure(
    tree: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for folder in ("mnt/nas", "my photos", "photos 2024"):
        Path(folder).mkdir(parents=True)
    Path("our own x.jpg").touch()
    Path("away").symlink_to("/nowhere/at/all")
    Path("circle").symlink_to("circle")
    assert away(*paths) == message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_root_that_may_not_be_read_is_away(shown_tree: Path, mode: int) -> None:
    code = (
        "import sys, os; from tests.discovery.test_discover import away; os.setuid(65534);"
        "print(*map(away, ['photos', 'photos/*.jpg', 'photos/2024']), sep='\\n')"
    )
    (shown_tree / "photos").chmod(mode)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    (shown_tree / "photos").chmod(0o755)
    cure = "cannot be listed (Permission denied): let this user read it, or leave it out"
    assert done.stderr == ""
    walked, glob, below = done.stdout.splitlines()
    assert walked == f"photos {cure}"
    assert glob == ("" if mode == 0o444 else f"nothing matches photos/*.jpg: photos/ {cure}")
    assert below == (
        ""
        if mode == 0o111
        else "photos/2024 cannot be reached (Permission denied): let this user reach it, or leave it out"
    )


def test_a_check_of_globs_ends_at_the_first_match(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    scandir = os.scandir

    def noted(path: str) -> "Iterator[os.DirEntry[str]]":
        read.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    assert away("photos/**/*.jpg") == ""
    assert read == ["photos/"] * 2  # for the folders in it, and for the files


def test_a_list_that_is_named_as_an_image_is_pointed_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_roots(["photos/notes.txt"], InputSelector(Filters()))
    check_roots(["photos", "photos/notes.txt"], InputSelector(Filters()))
    said = "photos/notes.txt is tried as an image: for a list of paths write --files-from photos/notes.txt"
    assert caplog.messages == [said]


def test_a_file_is_gone_where_its_folder_lists_others(tree: Path) -> None:
    assert all(map(is_gone, ["photos/x.jpg", f"{tree}/photos/x.jpg", "x.jpg", "photos/2025/a/b.jpg", "gone/x.jpg"]))
    assert is_gone("photos/b.jpg/x.jpg"), "a file has taken the place of its folder"
    assert is_gone("photos/2024"), "which had a row while it could not be read"
    Path("photos/broken.jpg").symlink_to("gone")
    assert not any(map(is_gone, [*ALL, "photos/.hidden.jpg", "photos/broken.jpg"]))
    os.unlink("photos/b.jpg")
    assert is_gone("photos/b.jpg")


def test_a_file_of_a_name_that_is_not_utf_8_is_found_as_its_row_shows_it(tree: Path) -> None:
    Path("photos/bad\udcff.jpg").touch()
    assert not is_gone("photos/bad\\xff.jpg")
    assert is_gone("photos/bad\\xfe.jpg")


def test_a_file_is_not_certainly_gone_where_a_mount_may_be_away(tree: Path) -> None:
    Path("photos/mnt").mkdir()
    Path("photos/link").symlink_to("/nowhere/at/all")
    Path("photos/hidden").mkdir()
    Path("photos/hidden/.keep").touch()
    for folder in ("mnt", "link", "hidden"):
        assert not is_gone(f"photos/{folder}/x.jpg")
        assert not is_gone(f"photos/{folder}/2024/x.jpg")
    Path("photos/mnt").rmdir()
    assert is_gone("photos/mnt/2024/x.jpg"), "its folder is gone, too"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ELOOP])
@pytest.mark.parametrize("call", ["lstat", "scandir"])
def test_a_file_is_not_gone_where_the_system_gives_another_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    assert is_gone("photos/x.jpg")
    monkeypatch.setattr(os, call, fail)
    assert not is_gone("photos/x.jpg")


def test_a_name_that_is_too_long_is_not_gone(tree: Path) -> None:
    assert not is_gone(f"photos/{'x' * 300}.jpg")


def test_a_member_is_gone_where_its_archive_can_be_read_without_it(tree: Path) -> None:
    for name in ("a.zip", "damaged.zip"):
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("in.jpg", b"x")
    Path("damaged.zip").write_bytes(Path("damaged.zip").read_bytes()[:40])
    Path("a.tar.gz").touch()
    Path("mnt").mkdir()
    assert is_gone("a.zip!out.jpg")
    assert is_gone("gone.zip!in.jpg")
    assert is_gone("gone.tar.gz!in.jpg")
    assert is_gone("gone.parquet!17")
    kept = ["a.zip!in.jpg", "damaged.zip!in.jpg", "damaged.zip!out.jpg", "a.tar.gz!out.jpg", "mnt/gone.zip!in.jpg"]
    assert not any(map(is_gone, kept))


def test_nothing_is_gone_where_nobody_lists(tree: Path) -> None:
    assert not is_gone("https://127.0.0.1:1/x.jpg")
    assert not is_gone("nosuch://x/y.jpg")


def test_what_is_passed_over_is_counted_by_suffix(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("photos/x.PSD", "photos/2024/y.psd", "photos/README", "photos/.hidden.psd", "photos/z.zip"):
        Path(name).touch()
    Path("photos/link").symlink_to("2024")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("in.jpg", "notes.txt", ".hidden"):
            archive.writestr(name, b"x")

    def counted(*paths: str, filters: Filters | None = None) -> Counter[str]:
        counter: Counter[str] = Counter()
        rules = InputSelector(filters or Filters(), passed_over=counter)
        assert list(find(paths, rules))
        return counter

    caplog.set_level(logging.INFO)
    assert counted("./photos/", "a.zip") == {".psd": 2, ".txt": 2, "": 1, ".zip": 1, "link to a folder": 1}
    assert {"passed over: ./photos/2024/y.psd", "passed over: a.zip!notes.txt"} < set(caplog.messages)
    assert counted("photos/notes.txt", "photos/*.PSD") == {}, "what is named is tried"
    assert counted("photos", filters=Filters(exclude=["*.zip", "2024/", "link"])) == {".psd": 1, ".txt": 1, "": 1}
    assert counted("photos", filters=Filters(hidden=True))[".psd"] == 3


def test_suffixes_without_number_take_no_memory(tree: Path) -> None:
    counter: Counter[str] = Counter()
    rules = InputSelector(Filters(), passed_over=counter)
    for number in range(3000):
        rules.pass_over("", f"log.{number}")
    assert (len(counter), counter.total(), counter["of other suffixes"]) == (1001, 3000, 2000)


def test_what_is_passed_over_is_said_in_a_line() -> None:
    assert describe_passed_over(Counter()) == ""
    assert describe_passed_over(Counter({"": 3, ".psd": 9})) == "12 passed over: 9 .psd, 3 without suffix"
    many = Counter({f".{letter}": 1000 - number for number, letter in enumerate("abcdefg")})
    assert describe_passed_over(many) == "6,979 passed over: 1,000 .a, 999 .b, 998 .c, 997 .d, 996 .e, 1,989 others"
