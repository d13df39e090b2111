from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vqtok.offline.batching import Batch, Batcher, Memory


def pixels(row: int, height: int = 2) -> np.ndarray:
    return np.full((height, 2, 3), row + 1, np.uint8)


def batches(size: int, rows: list[int], shapes: dict[int, int] | None = None) -> list[Batch]:
    """Batches as they are when they are given out; memory is used again at once."""
    memory = Memory()
    batcher = Batcher(size, shapes is None, memory)
    found = []

    def keep(batch: Batch) -> None:
        found.append(batch._replace(pixels=batch.pixels.copy()))
        batch.pixels[:] = 255
        memory.give(batch.pixels)

    for row in rows:
        for batch in batcher.add(row, pixels(row, (shapes or {}).get(row, 2))):
            keep(batch)
    for batch in batcher.rest():
        keep(batch)
    return found


@given(st.integers(1, 5), st.sets(st.integers(0, 20)))
def test_places_follow_from_numbers(size: int, rows: set[int]) -> None:
    found = batches(size, sorted(rows))
    assert [row for batch in found for row in batch.rows] == sorted(rows)
    for batch in found:
        number = batch.rows[0] // size
        assert batch.rows == [number * size + place for place in batch.places]
        assert batch.pixels.shape == (size, 2, 2, 3)
        for place in range(size):
            row = number * size + place
            wanted = row + 1 if row in rows else 0
            assert (batch.pixels[place] == wanted).all()


@given(st.integers(1, 4), st.lists(st.sampled_from([1, 2, 3]), max_size=20))
def test_shapes_have_batches_of_their_own(size: int, heights: list[int]) -> None:
    found = batches(size, list(range(len(heights))), dict(enumerate(heights)))
    assert sorted(row for batch in found for row in batch.rows) == list(range(len(heights)))
    for height in {*heights}:
        own = [batch for batch in found if batch.pixels.shape[1] == height]
        rows = [row for batch in own for row in batch.rows]
        assert rows == [row for row, each in enumerate(heights) if each == height]
        assert all(len(batch.rows) == size for batch in own[:-1])
        for batch in own:
            assert batch.places == list(range(len(batch.rows)))
            assert not batch.pixels[len(batch.rows) :].any()


def test_one_row_alone() -> None:
    batch = Batch([4, 5], [0, 1], np.stack([pixels(4), pixels(5)]))
    alone = batch.alone(1)
    assert not alone[0].any() and (alone[1] == 6).all() and batch.pixels[0].any()


def test_memory_is_used_again() -> None:
    memory = Memory()
    first = memory.take((2, 4, 4, 3))
    assert memory.take((2, 4, 4, 3)) is not first
    memory.give(first)
    assert memory.take((2, 4, 4, 3)) is first
    single = memory.take((1, 4, 4, 3))
    memory.give(single)
    assert memory.take((1, 4, 4, 3)) is not single
