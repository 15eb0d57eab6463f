"""The rows of a stream, such as a tar archive, which other processes make in pieces."""

from pathlib import Path

import pytest

from dinoclassify.errors import OutputError
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.writers.chunks import Piece, read_chunk, write_rows
from tests.helpers.output_folders import JSONL, label_all, open_folder, plan_chunks, row_of, rows_in

pytestmark = pytest.mark.usefixtures("small_parts")


class Tar:
    """A stream of images, read as the machines of a cluster read it."""

    def __init__(self, folder: str, path: str, **options: bool) -> None:
        self.kept: list[str] = []
        self.plan = plan_chunks(folder, **options)
        self.chunks = list(
            self.plan.chunks([Source(path, SequentialContainer())], lambda row: self.kept.append(row.path))
        )
        self._path = path

    @property
    def done(self) -> tuple[int, ...]:
        """The numbers of the pieces that are kept."""
        (chunk,) = self.chunks
        return read_chunk(self.plan.work, chunk.name).done

    def write(self, *numbers: int, last: int, failed: bool = False) -> None:
        """Write pieces of one row each; ``last`` is the number of the last one."""
        (chunk,) = self.chunks
        for number in numbers:
            rows = [row_of(f"{self._path}!{number}", f"{last} pieces", failed=failed)]
            self.plan.add(write_rows(self.plan.work, Piece(chunk.name, number, last == number), JSONL.lines, rows).file)

    def rows(self) -> list[str]:
        """The numbers and labels of its rows."""
        (lines,) = self.plan.rows()
        made = map(JSONL.lines.parse, lines)
        return [f"{row.path.rpartition('!')[2]} of {row.label}" for row in made]


def test_the_rows_of_a_stream_come_in_pieces(folder: str, images: list[str]) -> None:
    tar = Tar(folder, images[1])
    tar.write(2, 0, 1, last=2)
    assert tar.rows() == ["0 of 2 pieces", "1 of 2 pieces", "2 of 2 pieces"]
    again = Tar(folder, images[1])
    assert again.chunks == []
    assert again.kept == [f"{images[1]}!{number}" for number in range(3)]
    assert again.rows() == tar.rows()


@pytest.mark.parametrize("pieces", [[], [0], [0, 1], [1], [0, 2], [1, 3]])
def test_written_pieces_of_a_stream_are_not_made_again(folder: str, images: list[str], pieces: list[int]) -> None:
    Tar(folder, images[1]).write(*pieces, last=3)
    again = Tar(folder, images[1])
    done = [number for number in pieces if number != 3]  # which is the last one, somebody else may say
    assert again.done == tuple(done)
    assert again.kept == [f"{images[1]}!{number}" for number in done]
    again.write(*sorted({*range(5)} - {*done}), last=4)
    assert [made.split()[0] for made in again.rows()] == list("01234")


def test_a_changed_stream_is_read_again(folder: str, images: list[str]) -> None:
    Tar(folder, images[1]).write(0, 1, 2, last=2)
    Path(images[1]).write_bytes(b"another")
    assert Tar(folder, images[1]).done == ()


def test_pieces_with_a_failed_image_are_made_again_only_with_retry_failed(folder: str, images: list[str]) -> None:
    tar = Tar(folder, images[1])
    tar.write(0, 1, 3, last=3)
    tar.write(2, last=3, failed=True)
    assert Tar(folder, images[1]).chunks == []
    assert Tar(folder, images[1], retry_failed=True).done == (0, 1)


@pytest.mark.parametrize("first", ["longer", "shorter"])
def test_the_longer_of_two_readings_of_a_stream_is_kept(
    folder: str, images: list[str], first: str, caplog: pytest.LogCaptureFixture
) -> None:
    tar = Tar(folder, images[1])
    readings = [((0, 1, 2, 3), 3), ((0, 1), 1)]
    for pieces, last in readings if first == "longer" else reversed(readings):
        tar.write(*pieces, last=last)
    made = ["0", "1", "2", "3"]
    assert [row.split()[0] for row in tar.rows()] == made
    assert caplog.messages == ["an archive or table was read twice, with different lengths: the longer reading is kept"]
    again = Tar(folder, images[1])
    assert again.chunks == []
    assert [row.split()[0] for row in again.rows()] == made


@pytest.mark.parametrize("longer", [(0, 1), (0, 1, 2), (0, 2)])
def test_a_shorter_reading_does_not_replace_an_incomplete_longer_one(
    folder: str, images: list[str], longer: tuple[int, ...]
) -> None:
    tar = Tar(folder, images[1])
    tar.write(*longer, last=3)
    tar.write(0, 1, last=1)
    with pytest.raises(OutputError, match=r"lacks rows that were written: .* --resume goes on"):
        tar.rows()
    again = Tar(folder, images[1])
    assert 1 not in again.done or 1 in longer
    again.write(*sorted({*range(4)} - {*again.done}), last=3)
    assert [row.split()[0] for row in again.rows()] == list("0123")


def test_one_machine_keeps_the_stream_rows_that_a_cluster_made(folder: str, images: list[str]) -> None:
    open_folder(folder).close()
    Tar(folder, images[1]).write(0, 2, last=5)
    members = [f"{images[1]}!{number}" for number in range(4)]
    label_all(folder, members, name="bird", resume=True)
    labels = ["5 pieces", "bird", "5 pieces", "bird"]
    assert rows_in(folder) == list(zip(members, labels, strict=True))


def test_a_stream_that_is_named_twice_is_read_twice(folder: str, images: list[str]) -> None:
    chunks = list(
        plan_chunks(folder).chunks(
            [Source(images[1], SequentialContainer()), Source(images[1], SequentialContainer())], print
        )
    )
    assert len({chunk.name for chunk in chunks}) == 2
