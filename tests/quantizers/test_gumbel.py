"""Codes by their scores, drawn in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizers.cases import Case, latents
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.quantizers import to_rows
from vqtok.quantizers.gumbel import GumbelQuantizer

CASE = Case("gumbel", 4, 16, {})


def quantizer(**settings: Any) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(4, 16, **settings)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hard", [True, False])
def test_it_computes_what_taming_computes(hard: bool) -> None:
    reason = "taming-transformers-rom1504 is not installed"
    taming = pytest.importorskip("taming.modules.vqvae.quantize", reason=reason)
    ours = quantizer(straight_through=hard, temperature=0.7)
    theirs = taming.GumbelQuantize(4, 4, 16, straight_through=hard, temp_init=0.7)
    theirs.proj.load_state_dict(
        {"weight": ours.proj.weight[:, :, None, None], "bias": ours.proj.bias}
    )
    theirs.embed.load_state_dict(ours.embedding.state_dict())
    # Both draw the same numbers where tokens lie in the same order: one of them.
    z, y = (latents(CASE, batch=1, grid=(1, 1)).requires_grad_() for _ in range(2))
    torch.manual_seed(5)
    out = ours(z)
    torch.manual_seed(5)
    q, loss, (_, _, ids) = theirs(y)
    assert torch.equal(out.codes, ids)
    torch.testing.assert_close(out.z, q)
    torch.testing.assert_close(ours.total_loss(out.losses), loss)
    (out.z.square().sum() + ours.total_loss(out.losses)).backward()
    (q.square().sum() + loss).backward()
    torch.testing.assert_close(z.grad, y.grad)
    torch.testing.assert_close(ours.proj.weight.grad, theirs.proj.weight.grad[:, :, 0, 0])
    torch.testing.assert_close(ours.embedding.weight.grad, theirs.embed.weight.grad)


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_ids_are_those_of_the_highest_score(spread: float) -> None:
    ours = quantizer()
    with torch.no_grad():
        ours.proj.bias.mul_(spread)
        ours.proj.weight.mul_(spread)
    z = latents(CASE, batch=8, grid=(20, 20))
    scores = to_rows(z).double() @ ours.proj.weight.double().T + ours.proj.bias.double()
    assert torch.equal(ours.encode(z).flatten(), scores.argmax(1))


def test_a_draw_is_by_the_scores_and_the_temperature() -> None:
    ours = quantizer(temperature=0.5)
    z = latents(CASE, batch=1, grid=(1, 1)).expand(20000, 4, 1, 1)
    shares = ours(z, generator=draws()).codes.flatten().bincount(minlength=16) / 20000
    # The draw is by the scores; the temperature only softens its gradient.
    expected = F.softmax(ours.proj(to_rows(z[:1])), dim=1)[0]
    torch.testing.assert_close(shares, expected.detach(), atol=0.012, rtol=0)


def test_a_soft_draw_is_a_mixture() -> None:
    soft, hard = quantizer(straight_through=False), quantizer()
    z = latents(CASE)
    out, drawn = soft(z, generator=draws()), hard(z, generator=draws())
    assert torch.equal(out.codes, drawn.codes)
    assert not torch.allclose(out.z, soft.decode(out.codes), atol=1e-2)
    soft.temperature.fill_(1e-4)
    out = soft(z, generator=draws())
    torch.testing.assert_close(out.z, drawn.z)


def test_a_generator_decides_the_draw() -> None:
    ours, z = quantizer(), latents(CASE, batch=8)
    assert torch.equal(ours(z, generator=draws(1)).codes, ours(z, generator=draws(1)).codes)
    assert not torch.equal(ours(z, generator=draws(1)).codes, ours(z, generator=draws(2)).codes)


def test_the_loss_is_the_distance_to_uniform() -> None:
    ours = quantizer(kl_weight=0.01)
    shares = F.softmax(ours.proj(to_rows(latents(CASE))).double(), dim=1)
    expected = (shares * (shares * 16).log()).sum(1).mean().float()
    losses = ours(latents(CASE)).losses
    torch.testing.assert_close(losses["entropy"], expected)
    torch.testing.assert_close(ours.total_loss(losses), 0.01 * expected)
    with torch.no_grad():
        ours.proj.weight.zero_()
        ours.proj.bias.zero_()
    assert float(ours(latents(CASE)).losses["entropy"].detach()) == pytest.approx(0, abs=1e-6)


def test_a_schedule_survives_a_checkpoint() -> None:
    here, there = quantizer(), quantizer()
    here.temperature.fill_(1 / 16)
    there.load_state_dict(here.state_dict())
    assert float(there.temperature) == 1 / 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"estimator": "rotation"},
            "the quantizer 'gumbel' passes its gradient through the sample and takes no "
            "estimator; got estimator='rotation'",
        ),
        ({"temperature": 0.0}, "temperature is positive; got 0.0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        quantizer(**settings)
    assert str(error.value) == message
