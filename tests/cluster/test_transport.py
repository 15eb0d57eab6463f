"""Decoded batches on their way between processes of a cluster."""

import numpy as np
import numpy.typing as npt
import pytest

from dinoclassify.cluster.tasks import pack, pieces_of, unpack
from dinoclassify.decoding.batch import Batch, DecodedImage
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source
from dinoclassify.writers.chunks import Piece

pytest.importorskip("ray")


def test_a_piece_is_some_whole_batches_even_where_all_images_of_a_batch_failed() -> None:
    def batch(count: int, failed: int = 0) -> Batch:
        inputs = [DecodedImage(Source(str(number)), failure=None) for number in range(count)]
        return Batch(inputs, np.zeros((count - failed, 3, 2, 2), np.uint8), 0.0, 0.0)

    pieces = pieces_of([batch(4), batch(4, failed=4), batch(4), batch(1)], 8)
    assert [[len(batch.inputs) for batch in piece] for piece in pieces] == [[4, 4], [4, 1]]
    assert list(pieces_of([], 8)) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_packing_and_unpacking_a_piece_changes_nothing(dtype: npt.DTypeLike) -> None:
    piece = Piece("chunk", 3, last=True)
    failed = DecodedImage(Source("b"), failure=Failure("vanished", "is gone"))
    batches = [
        Batch(
            [DecodedImage(Source("a"), size=1, mtime_ns=2), failed],
            (np.random.default_rng(0).random((1, 3, 4, 5)) * 255).astype(dtype),
            0.5,
            0.25,
        ),
        Batch([failed], np.empty((0, 3, 0, 0), dtype), 0.0, 0.0),
    ]
    back, same = unpack(pack(piece, batches))
    assert back == piece
    for one, other in zip(batches, same, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.pixels.dtype == other.pixels.dtype
        assert (one.inputs, one.read_seconds, one.decode_seconds) == (
            other.inputs,
            other.read_seconds,
            other.decode_seconds,
        )
