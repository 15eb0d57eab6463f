"""Many inputs: cost and memory stay flat."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.filters import Filters
from dinoclassify.pipeline import classify
from dinoclassify.types.source import Source
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_file import OutputFile
from tests.helpers.levels import LABELS, TINY, level_of

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["folder", pytest.param("list", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_number_of_inputs(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    count = 2_000 if kind == "folder" else 40_000
    if kind == "folder":
        for number in range(count):
            Image.new("L", (9, 9), number % 250).save(folder / f"{number:05}.png")
        sources = discover([str(folder)])
    else:
        Image.new("L", (9, 9), 7).save(folder / "x.png")
        (tmp_path / "list").write_text(f"{folder}/x.png\n" * count)
        sources = discover([], Filters(), files_from=str(tmp_path / "list"))
    batches = load_batches(sources, TINY, batch_size=32, workers=1, exact=False, max_pixels=10_000)
    written, early = 0, 0
    row_format = open_format("csv", 1)
    place = OutputFile(str(tmp_path / "out.csv"), row_format, batch_size=32)
    with closing(Output.open(place, row_format.lines, {}, UpdateOptions())) as output:
        for prediction in classify(batches, level_of, LABELS):
            output.write(prediction)
            written += 1
            early = resident() if written == count // 4 else early
    assert written == count
    assert resident() - early < 20 * 2**20
    assert (tmp_path / "out.csv.partial").read_bytes().count(b"\n") == count + 1


@pytest.mark.slow
def test_half_a_million_paths_are_discovered_lazily(tmp_path: Path) -> None:
    for folder in range(50):
        (tmp_path / f"{folder:02}").mkdir()
        for number in range(2_000):
            (tmp_path / f"{folder:02}" / f"{number:04}.jpg").touch()
    early, before = 0, resident()
    last = Source("")
    for number, source in enumerate(discover([str(tmp_path)] * 5)):
        early = resident() if number == 10_000 else early
        assert number % 100_000 == 0 or source.path > last.path
        last = source
    assert number == 499_999
    assert resident() - early < 10 * 2**20
    assert early - before < 50 * 2**20


@pytest.mark.slow
def test_a_folder_of_very_many_images_takes_little_memory(tmp_path: Path) -> None:
    """A name is all that is kept of an image: 300,000 of them take less than 40 MB, a million less than 130."""
    for number in range(300_000):
        os.close(os.open(tmp_path / f"{number:07}.jpg", os.O_CREAT | os.O_WRONLY))
    before = resident()
    sources = discover([str(tmp_path)])
    assert next(sources).path.endswith("0000000.jpg")
    assert resident() - before < 40 * 2**20
    assert sum(1 for _ in sources) == 299_999
