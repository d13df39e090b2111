"""Memory of batches."""

from __future__ import annotations

import numpy as np

from vqtok.serve.staging import Staging


def test_what_lies_behind_is_zero() -> None:
    staging = Staging()
    rows = [np.full((2, 3), value, np.float32) for value in (1, 2, 3)]
    whole = staging.lay(rows, 3)
    assert whole.tolist() == np.stack(rows).tolist()
    padded = staging.lay(rows[:1], 4)
    assert (padded.shape, padded.dtype) == ((4, 2, 3), np.float32)
    assert padded[0].tolist() == rows[0].tolist()
    assert not padded[1:].any()


def test_memory_is_used_again_and_grows() -> None:
    staging = Staging()
    first = staging.lay([np.ones((4, 4), np.uint8)], 8)
    second = staging.lay([np.ones((2, 4), np.uint16)], 8)
    assert np.shares_memory(first, second)
    third = staging.lay([np.ones((4, 4), np.uint8)], 9)
    assert not np.shares_memory(first, third)
    assert third.nbytes == 9 * 16
