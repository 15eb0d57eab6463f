"""`predict --list`: the inputs of a run without the run."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.helpers.commands import Invoke, parse_rows


def test_list_prints_the_inputs_that_a_run_labels(here: Path, tiny: str, invoke: Invoke) -> None:
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
        labelled = [row["path"] for row in parse_rows(invoke("predict", *arguments, "-m", tiny)[1])]
        code, out, err = invoke("predict", *arguments, "--list", "-m", "no/such-model", "-k", "3")
        assert (code, out.splitlines()) == (0, labelled)
        assert re.fullmatch(rf"dinoclassify: {len(labelled)} inputs(; \d passed over: \d .md)?\n", err)
    assert invoke("predict", "photos", "--list", "--limit", "1", "-q") == (0, "photos/broken.jpg\n", "")


def test_list_prints_exact_names_and_imports_no_model(here: Path, cli: Cli) -> None:
    names = [b"new\nline.jpg", b"bad\xff.jpg"]
    os.mkdir("odd")
    for name in names:
        open(b"odd/" + name, "w").close()
    expected = b"".join(b"odd/" + name + b"\0" for name in sorted(names))
    assert cli("predict", "odd", "--list", "-0").stdout == expected
    assert cli("predict", "-", "--list", "-0", stdin=expected).stdout == expected
    done = cli("predict", "odd", "--list")
    assert done.stdout == expected.replace(b"\0", b"\n")
    assert done.stderr.startswith(
        b"dinoclassify: odd/new\\nline.jpg has a line break, which the list on stdout cannot hold: use -0\n"
    )
    code = "import sys; from dinoclassify.cli import run; run(['predict', 'odd', '--list', '-q']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True).stdout.split()
    assert not {b"torch", b"transformers", b"numpy", b"pandas", b"PIL"} & set(modules)


def test_a_list_of_no_inputs_is_refused_as_a_run_is(here: Path, invoke: Invoke) -> None:
    for arguments in ([], ["-0"]):
        code, _, err = invoke("predict", "photos", "--include", "*.gone", "--list", *arguments)
        assert (code, "none match --include '*.gone': change the pattern" in err) == (4, True), err


@pytest.mark.parametrize("name", ["b.zip", "b.tar", "b.tar.gz"])
def test_a_pattern_that_leaves_out_all_of_an_archive_is_named(name: str, here: Path, invoke: Invoke) -> None:
    shutil.make_archive("b", {"zip": "zip", "tar": "tar", "gz": "gztar"}[name.rpartition(".")[2]], "photos")
    code, _, err = invoke("predict", name, "--include", "*.gone", "--list")
    assert code == 4
    assert re.fullmatch(rf"dinoclassify: {re.escape(name)}: \d images, none match --include '\*\.gone': .*\n", err), err


def test_list_ends_quietly_when_its_reader_is_closed(here: Path) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = f"{sys.executable} -m dinoclassify predict --files-from list --list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == ("photos/coffee.jpg\n0\n", "")
