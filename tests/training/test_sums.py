"""Ranks and the order of their candidates are looked at in test_distributed.py."""

from __future__ import annotations

import torch

from vqtok.quantizers.residual import ResidualQuantizer
from vqtok.quantizers.vector import VectorQuantizer
from vqtok.training.sums import joined


def test_micro_batches_add_up_to_the_batch() -> None:
    torch.manual_seed(0)
    for quantizer in (
        VectorQuantizer(4, 16, start="kaiming"),
        ResidualQuantizer(4, 16, num_quantizers=3, start="kaiming"),
    ):
        z = torch.randn(6, 4, 5, 5)
        whole = quantizer(z).sums
        parts = joined([quantizer(part).sums for part in z.split(2)])
        assert whole is not None
        assert torch.equal(parts.count, whole.count)
        assert torch.equal(parts.candidates, whole.candidates)
        torch.testing.assert_close(parts.total, whole.total, rtol=1e-6, atol=1e-6)
        quantizer.step(parts)  # fits
