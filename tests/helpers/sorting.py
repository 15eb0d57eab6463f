"""Sort images in this process, take them back, and look at what is in folders."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from dinoclassify.results.companions import count_shots
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal
from dinoclassify.results.sort.layout import parse_layout
from dinoclassify.results.sort.plans import SortResult
from dinoclassify.results.sort.sort import SortedFolder, make_folder
from dinoclassify.results.sort.targets import SortOptions
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.results.sort.undo import own_folders, remove_empty, undo_all
from dinoclassify.types.prediction import Prediction
from tests.helpers.images import image

MADE = ".dinoclassify-0123456789abcdef.new"  # the name of a copy that is not whole


MODES: tuple[Mode, ...] = ("copy", "move", "symlink", "hardlink")


def tree(folder: str | Path = ".") -> dict[str, tuple[str, int, int] | None]:
    """All that is in a folder: files with their digest, time and rights, links with where they lead, folders."""
    found: dict[str, tuple[str, int, int] | None] = {}
    for path in sorted(Path(folder).rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path)] = (os.readlink(path), 0, 0)
        elif path.is_dir():
            found[str(path)] = None
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (digest, status.st_mtime_ns, status.st_mode)
    return found


def contents(folder: str | Path = ".") -> list[bytes]:
    """The content of each file below a folder that is not the journal, or a link."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(
        path.read_bytes()
        for path in files
        if path.name != JOURNAL_NAME and path.suffix not in (".csv", ".lock", ".new")
    )


def sort(
    rows: Sequence[Prediction], mode: Mode = "copy", layout: str = "{label}/{name}", into: str = "sorted"
) -> list[SortResult]:
    folder = SortedFolder(into, mode, new_folders=make_folder(into), resume=True)
    return list(folder.sort(rows, SortOptions(parse_layout(layout)), batch=3))


def undo(folder: str = "sorted") -> list[str | None]:
    """Take everything back; gives for each entry of the journal why it stays."""
    path = os.path.realpath(f"{folder}/{JOURNAL_NAME}")
    entries = read_journal(path).entries
    reasons = [undone.why for undone in undo_all(path, entries)]
    remove_empty(own_folders(path, entries))
    return reasons


def sort_with_companions(
    rows: Sequence[Prediction], mode: Mode = "copy", layout: str = "{label}/{name}", into: str = "sorted"
) -> list[SortResult]:
    folder = SortedFolder(into, mode, new_folders=make_folder(into), resume=True)
    rules = SortOptions(parse_layout(layout), with_companions=True)
    return list(folder.sort(rows, rules, batch=3, shots=count_shots(rows, rules.find)))


def files(folder: str = "sorted") -> dict[str, str]:
    """Path below the folder -> content."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != JOURNAL_NAME)
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(found)}


def shot(folder: str) -> dict[str, str]:
    """A RAW with its JPEG and what programs have put beside them; and other files."""
    names = ["x.CR2", "x.JPG", "x.xmp", "x.CR2.xmp", "x.JPG.xmp", "x.AAE", "x.wav", "x.jpg.json", "y.xmp", "x.pdf"]
    return {name: Path(image(f"{folder}/{name}")).read_text() for name in names}


def remove_end() -> None:
    """The journal as a kill leaves it before the run has come to its end."""
    journal = Path(f"sorted/{JOURNAL_NAME}")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"event": "end"' not in line))


ALONG = ["x.AAE", "x.CR2", "x.CR2.xmp", "x.JPG", "x.JPG.xmp", "x.wav", "x.xmp"]
