"""Lookup-free quantization."""

from __future__ import annotations

import pytest
import torch
from quantizers.cases import Case, latents

from vqtok.errors import ConfigError
from vqtok.quantizers import to_rows
from vqtok.quantizers.lfq import LookupFreeQuantizer

CASE = Case("lfq", 6, 64, {})


def test_it_computes_what_vector_quantize_pytorch_computes() -> None:
    from vector_quantize_pytorch import LFQ

    theirs = LFQ(dim=6, codebook_size=64, commitment_loss_weight=0.25)
    ours = LookupFreeQuantizer(6, 64, inv_temperature=2.0)
    z, y = (latents(CASE, grid=(32, 32)).requires_grad_() for _ in range(2))
    out = ours(z)
    done, parts = theirs(y, inv_temperature=2.0, return_loss_breakdown=True)
    assert torch.equal(out.codes, done.indices)
    torch.testing.assert_close(out.z, done.quantized)
    torch.testing.assert_close(out.losses["commit"], parts.commitment)
    alone = LookupFreeQuantizer(6, 64, inv_temperature=2.0, diversity_gamma=0.0)
    torch.testing.assert_close(
        alone(z).losses["entropy"], parts.per_sample_entropy, rtol=1e-3, atol=0
    )
    # The entropy over joint codes is at most that over the bits' marginals.
    even = (alone(z).losses["entropy"] - out.losses["entropy"]).detach()
    joint = parts.batch_entropy.detach()
    assert joint <= even
    torch.testing.assert_close(even, joint, rtol=0.1, atol=0)
    assert torch.equal(ours.look_up(torch.arange(64)), theirs.codebook)


def test_the_entropy_loss_in_float64() -> None:
    ours = LookupFreeQuantizer(6, 64, inv_temperature=0.5, diversity_gamma=3.0)
    sure = torch.sigmoid(2 * to_rows(latents(CASE)).double())

    def entropy(p: torch.Tensor) -> torch.Tensor:
        return -(p * p.log() + (1 - p) * (1 - p).log())

    expected = entropy(sure).sum(1).mean() - 3 * entropy(sure.mean(0)).sum()
    losses = ours(latents(CASE)).losses
    torch.testing.assert_close(losses["entropy"], expected.float())
    weighed = 0.25 * losses["commit"] + 0.1 * losses["entropy"]
    torch.testing.assert_close(ours.total_loss(losses), weighed)


@pytest.mark.parametrize("value", [0.0, 50.0, -50.0])
def test_the_entropy_of_sure_bits_has_a_gradient(value: float) -> None:
    z = torch.full((1, 6, 2, 2), value).requires_grad_()
    ours = LookupFreeQuantizer(6, 64)
    loss = ours(z).losses["entropy"]
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_zero_is_a_cleared_bit() -> None:
    ours = LookupFreeQuantizer(2, 4)
    z = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.0, -1.0], [2.0, 3.0]]).T[None]
    assert ours.encode(z).tolist() == [[1, 2, 0, 3]]


def test_a_codebook_size_must_match_the_bits() -> None:
    with pytest.raises(ConfigError) as error:
        LookupFreeQuantizer(10, 1000)
    assert str(error.value) == (
        "'lfq' has one bit a dimension: dim=10 goes with codebook_size=1024; got 1000"
    )


def test_a_temperature_is_positive() -> None:
    with pytest.raises(ConfigError) as error:
        LookupFreeQuantizer(2, 4, inv_temperature=0.0)
    assert str(error.value) == "inv_temperature is positive; got 0.0"
