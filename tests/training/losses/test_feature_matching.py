from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqtok.training.losses.feature_matching import feature_matching


def features(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, width, 12 // width, 2, generator=generator) for width in (2, 3, 6)]


def test_each_layer_counts_alike() -> None:
    real = [torch.zeros(2, 100), torch.zeros(2, 1)]
    fake = [torch.full((2, 100), 1.0), torch.full((2, 1), -4.0)]
    assert feature_matching(real, fake).item() == 2.5
    assert feature_matching(fake, fake).item() == 0


def test_no_gradient_goes_to_the_pictures() -> None:
    real, fake = ([t.requires_grad_() for t in features(seed)] for seed in (0, 1))
    feature_matching(real, fake).backward()
    assert all(t.grad is None for t in real)
    assert all(t.grad is not None and t.grad.abs().max() > 0 for t in fake)


def test_a_batch_has_the_mean_of_its_halves() -> None:
    real, fake = features(0), features(1)
    halves = [
        feature_matching([t[part] for t in real], [t[part] for t in fake])
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(torch.stack(halves).mean(), feature_matching(real, fake))


def test_half_precision_is_worked_out_in_float32() -> None:
    real, fake = ([t.bfloat16() for t in features(seed)] for seed in (0, 1))
    value = feature_matching(real, fake)
    assert value.dtype == torch.float32
    assert torch.equal(
        value, feature_matching([t.float() for t in real], [t.float() for t in fake])
    )


def test_as_many_layers_on_both_sides() -> None:
    with pytest.raises(ValueError, match="shorter"):
        feature_matching(features(0), features(1)[:2])
