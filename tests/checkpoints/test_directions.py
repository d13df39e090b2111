from __future__ import annotations

import pytest
import torch

from vqtok.checkpoints.directions import are_directions, dead


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([1.0, 1.0], True),
        ([1.0, 0.995], True),
        ([1.0, 0.0, 1e-20, 9e-3], True),
        ([0.0, 0.0], False),
        ([1.0, 0.5], False),
        ([1.0, 1.02], False),
        ([0.98, 0.0], False),
    ],
)
def test_directions_have_a_length_of_1_or_are_dead(lengths: list[float], found: bool) -> None:
    codes = torch.eye(4)[None, : len(lengths)] * torch.tensor(lengths)[None, :, None]
    assert are_directions(codes) == found
    assert are_directions(codes.half()) == found
    assert dead(codes).tolist() == [[length <= 1e-2 for length in lengths]]
