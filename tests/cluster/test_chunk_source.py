"""The queue of chunk names that tasks read from."""

import pytest

pytest.importorskip("ray")


def test_a_chunk_becomes_available_when_another_is_finished_and_can_be_asked_for_again() -> None:
    from dinoclassify.cluster.chunk_source import ChunkQueue

    todo = ChunkQueue(2)
    assert todo.after(0) == ([], False)
    todo.add("a")
    todo.add("b")
    assert todo.after(0) == (["a", "b"], False)
    assert todo.after(1) == (["b"], False)
    todo.add("c")
    todo.end()
    assert todo.after(0) == (["a", "b"], False)  # two are under way, and no more until one is finished
    todo.finish()
    assert todo.after(0) == (["a", "b", "c"], True)
    assert todo.after(3) == ([], True)
