"""The memory of a watch: which images have a row."""

from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.discovery.seen import Seen, SeenFile
from dinoclassify.errors import UsageError


def test_the_memory_is_the_same_after_a_restart(tmp_path: Path) -> None:
    seen = {
        "/a.jpg": Seen((1, 2), "ok"),
        "/b\udcff\n.jpg": Seen((None, None), "failed", "unreadable"),
        "/é.jpg": Seen((3, 4), "uncertain"),
    }
    output = str(tmp_path / "rows.csv")
    memory = SeenFile({"model": "x"})
    memory.rotated = {"/old.jpg": seen["/a.jpg"]}
    memory.replace(output, {"/a.jpg": seen["/a.jpg"]})
    memory.add_root("/in", (1, 2))
    for image, last in seen.items():
        memory.add(image, last)
    memory.close()
    with open(f"{output}.seen", "ab") as file:
        file.write(b'["/torn.jpg", 1,')
    again = SeenFile({"model": "x"})
    earlier = {image: replace(last, earlier=True) for image, last in seen.items()}
    assert again.read(output) == earlier
    assert again.rotated == {"/old.jpg": earlier["/a.jpg"]}
    assert again.roots == {"/in": (1, 2)}
    other = SeenFile({"model": "y"})
    assert (other.read(output), other.rotated, other.roots) == ({}, {}, {}), "rows of another model"


@pytest.mark.parametrize(
    "content",
    ["", "\0\0\n", '{"x": 1\n', "[" * 100_000 + "\n",
     '{}\n["/a", "x", 2, "ok", null]\n', '{}\n[null, 1, 2, "ok", null]\n',
     '{}\n["/a", 1, 2, "good", null]\n', '{}\n["/a", 1, 2, "failed", "bad"]\n', '{}\n7\n'],
)  # fmt: skip
def test_a_damaged_memory_is_refused_by_name(inbox: Path, content: str) -> None:
    Path("labels.csv.seen").write_text(content)
    with pytest.raises(UsageError, match=r"cannot read labels\.csv\.seen \(.*\): remove it; images whose rows were"):
        SeenFile({}).read("labels.csv")
