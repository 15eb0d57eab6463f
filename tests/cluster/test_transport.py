"""Decoded batches on their way between processes of a cluster."""

from typing import Any

import pytest
import torch

from dinoclassify.cluster.tasks import pack, pieces_of, unpack
from dinoclassify.decoding.batch import Batch, DecodedImage
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source
from dinoclassify.writers.chunks import Piece

pytest.importorskip("ray")


def test_a_piece_is_some_whole_batches_even_where_all_images_of_a_batch_failed() -> None:
    def batch(count: int, failed: int = 0) -> Batch:
        inputs = [DecodedImage(Source(str(number)), failure=None) for number in range(count)]
        return Batch(inputs, torch.zeros(count - failed, 3, 2, 2, dtype=torch.uint8), 0.0, 0.0)

    pieces = pieces_of([batch(4), batch(4, failed=4), batch(4), batch(1)], 8)
    assert [[len(batch.inputs) for batch in piece] for piece in pieces] == [[4, 4], [4, 1]]
    assert list(pieces_of([], 8)) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_packing_and_unpacking_a_piece_changes_nothing(dtype: torch.dtype) -> None:
    piece = Piece("chunk", 3, last=True)
    failed = DecodedImage(Source("b"), failure=Failure("vanished", "is gone"))
    batches = [
        Batch(
            [DecodedImage(Source("a"), size=1, mtime_ns=2), failed],
            torch.rand(1, 3, 4, 5).mul(255).to(dtype),
            0.5,
            0.25,
        ),
        Batch([failed], torch.empty((0, 3, 0, 0), dtype=dtype), 0.0, 0.0),
    ]
    back, same = unpack(pack(piece, batches), pinned=False)
    assert back == piece
    for one, other in zip(batches, same, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert one.pixels.dtype == other.pixels.dtype
        assert (one.inputs, one.read_seconds, one.decode_seconds) == (
            other.inputs,
            other.read_seconds,
            other.decode_seconds,
        )


def test_unpacking_uses_ordinary_memory_if_no_memory_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(shape: tuple[int, ...], *, pin_memory: bool = False, **options: Any) -> Any:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return empty(shape, **options)

    batch = Batch([DecodedImage(Source("a"))], torch.rand(1, 3, 4, 5), 0.0, 0.0)
    block = pack(Piece("chunk", 0, last=True), [batch])
    monkeypatch.setattr(torch, "empty", refuse)
    _, (same,) = unpack(block, pinned=True)
    assert torch.equal(batch.pixels, same.pixels)
