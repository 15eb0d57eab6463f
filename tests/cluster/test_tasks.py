"""What a task of the cluster decodes."""

import platform
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.cluster.tasks import unpack
from dinoclassify.errors import UsageError
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MAX_PIXELS, SequentialContainer, Source
from dinoclassify.writers.chunks import Chunk, Piece, write_chunk
from tests.helpers.levels import TINY

pytest.importorskip("ray")


def decoded(work: Path, chunk: Chunk, members: list[str], folder: Path) -> list[tuple[Piece, list[str]]]:
    """The pieces that a task of the cluster makes of a chunk, with the paths of their images."""
    import pyarrow as pa

    from dinoclassify.cluster.tasks import DecodeTask, Decoding, decode_chunk

    write_chunk(str(work), chunk)
    decoding = Decoding(2, exact=False, max_pixels=MAX_PIXELS, timeout=60.0)
    task = DecodeTask(str(work), str(folder), TINY, decoding, lambda _: map(Source, members), piece_size=4)
    blocks = decode_chunk(pa.table({"chunk": [chunk.name]}), task=task)
    found = [unpack(block) for block in blocks]
    return [(piece, [each.source.path for batch in batches for each in batch.inputs]) for piece, batches in found]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), [(0, "0123"), (1, "4567"), (2, "89")]),
        ((0,), [(1, "4567"), (2, "89")]),
        ((1,), [(0, "0123"), (2, "89")]),
        ((0, 1), [(2, "89")]),
        ((0, 1, 2), [(3, "")]),  # the end was not seen: nothing is behind it
        ((0, 1, 5), [(2, "89")]),  # another reading was longer
    ],
)
def test_only_the_missing_pieces_of_a_stream_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: tuple[int, ...], expected: list[tuple[int, str]]
) -> None:
    monkeypatch.setattr("dinoclassify.cluster.tasks.hand_over", lambda batch_size: batch_size)  # pieces are small here
    monkeypatch.chdir(tmp_path)
    members = [f"{number}.png" for number in range(10)]
    for member in members:
        Image.new("L", (9, 9)).save(member)
    chunk = Chunk("stream-0123456789abcdef", (Source("a.tar", SequentialContainer()),), done)
    last = expected[-1][0]
    assert decoded(tmp_path / "work", chunk, members, tmp_path) == [
        (Piece(chunk.name, number, last=number == last), [f"{member}.png" for member in some])
        for number, some in expected
    ]


@pytest.mark.parametrize("name", ["photos/a.jpg", "photos.zip!a.jpg", "./a.jpg"])
def test_relative_paths_need_the_working_folder_on_every_machine(tmp_path: Path, name: str) -> None:
    chunk = Chunk("000000000-0123456789abcdef", (Source("/photos/b.jpg"), Source(name)))
    with pytest.raises(UsageError) as caught:
        decoded(tmp_path / "work", chunk, [], tmp_path / "gone")
    start = f"{platform.node()} cannot enter {tmp_path}/gone, in which {name} begins (No such file or directory): "
    assert str(caught.value) == f"{start}name absolute paths, or share that folder with all machines"


def test_absolute_paths_do_not_need_the_working_folder(tmp_path: Path) -> None:
    sources = (Source(f"{tmp_path}/b.jpg"), Source("s3://bucket/c.jpg", Failure("vanished", "is gone")))
    chunk = Chunk("000000000-0123456789abcdef", sources)
    assert decoded(tmp_path / "work", chunk, [], tmp_path / "gone") == [
        (Piece(chunk.name, 0, last=True), [source.path for source in sources])
    ]
