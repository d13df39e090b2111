"""Residual quantization."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from quantizers.cases import Case, assert_same_state, latents, state
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.estimators import ESTIMATORS
from vqtok.quantizers import to_rows
from vqtok.quantizers.residual import ResidualQuantizer
from vqtok.quantizers.vector import VectorQuantizer

CASE = Case("residual", 4, 16, {})


def quantizer(quantizers: int = 3, **settings: Any) -> ResidualQuantizer:
    torch.manual_seed(0)
    settings = {"start": "normal", "num_quantizers": quantizers, **settings}
    return ResidualQuantizer(4, 16, **settings)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(ours: ResidualQuantizer, e: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Rows -> their codes (N, Q), what each quantizer was given, and what it made of that."""
    ids, rests, parts = [], [], []
    for quantizer in ours._quantizers():
        codes = quantizer.embedding.weight.detach()
        rests.append(e)
        ids.append(torch.cdist(e.double(), codes.double()).argmin(1))
        parts.append(codes[ids[-1]])
        e = e - parts[-1]
    return torch.stack(ids, 1), rests, parts


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_each_quantizer_gets_what_is_left_over(shared: bool, estimator: str) -> None:
    ours = quantizer(shared_codebook=shared, estimator=estimator)
    z = latents(CASE).requires_grad_()
    out = ours(z)
    ids, rests, parts = by_hand(ours, to_rows(z.detach()))
    assert torch.equal(out.codes.flatten(0, 2), ids)
    torch.testing.assert_close(to_rows(out.z.detach()), parts[0] + parts[1] + parts[2])
    errors = [F.mse_loss(rest, part) for rest, part in zip(rests, parts, strict=True)]
    torch.testing.assert_close(out.losses["commit"].detach(), sum(errors) / 3)
    # The estimator is applied once, to the vector and the sum of its codes.
    out.z.square().sum().backward()
    e = to_rows(z.detach()).requires_grad_()
    ESTIMATORS[estimator](e, sum(parts)).square().sum().backward()
    torch.testing.assert_close(to_rows(z.grad), e.grad)


def test_one_quantizer_is_the_vector_quantizer() -> None:
    one, plain = quantizer(1), VectorQuantizer(4, 16, start="kaiming")
    plain.load_state_dict(one.first.state_dict())
    for step in range(3):
        out, expected = one(latents(CASE, seed=step)), plain(latents(CASE, seed=step))
        assert torch.equal(out.z, expected.z)
        assert torch.equal(out.codes[..., 0], expected.codes)
        one.step(out.sums, draws(step))
        plain.step(expected.sums, draws(step))
        assert_same_state(state(plain), state(one.first))


def test_each_step_is_the_quantizers_own() -> None:
    ours = quantizer(dead_codes="off", estimator="ste")
    copies = [VectorQuantizer(4, 16, start="kaiming", dead_codes="off", estimator="ste")] * 3
    sums = ours(latents(CASE)).sums
    _, rests, _ = by_hand(ours, to_rows(latents(CASE)))
    expected = []
    for rest, stage, copy in zip(rests, ours._quantizers(), copies, strict=True):
        copy.load_state_dict(stage.state_dict())
        copy.step(copy(rest.T[None, :, :, None]).sums)
        expected.append(copy.embedding.weight.detach().clone())
    ours.step(sums)
    for stage, weight in zip(ours._quantizers(), expected, strict=True):
        torch.testing.assert_close(stage.embedding.weight.detach(), weight)


def test_a_shared_codebook_takes_all_sums_at_once() -> None:
    ours = quantizer(shared_codebook=True, dead_codes="off", estimator="ste")
    plain = VectorQuantizer(4, 16, start="kaiming", dead_codes="off", estimator="ste")
    plain.load_state_dict(ours.first.state_dict())
    out = ours(latents(CASE))
    ids, rests, _ = by_hand(ours, to_rows(latents(CASE)))
    assert out.sums.candidates.shape == (3, 24, 4)
    ours.step(out.sums)
    # One table, and all that was left over as one batch.
    plain.step(plain.sums(torch.cat(rests), ids.T.flatten(), items=1))
    torch.testing.assert_close(ours.first.embedding.weight, plain.embedding.weight)
    torch.testing.assert_close(ours.first.count, plain.count)
    assert int(ours.first.steps) == 1
    assert [name for name, _ in ours.named_parameters()] == ["stages.0.embedding.weight"]


def test_a_shared_codebook_starts_from_what_all_were_given() -> None:
    ours = quantizer(shared_codebook=True, start="data")
    sums = ours(latents(CASE)).sums
    order = torch.randperm(72, generator=draws())
    ours.step(sums, draws())
    assert torch.equal(ours.first.embedding.weight, sums.candidates.flatten(0, 1)[order][:16])


@pytest.mark.parametrize("shared", [True, False])
def test_all_open_and_start_from_data_together(shared: bool) -> None:
    ours = quantizer(start="data", kmeans_iters=5, shared_codebook=shared)
    for step in range(5):
        z = latents(CASE, seed=step, batch=8)
        out = ours(z)
        assert torch.equal(out.z, z)
        assert float(out.losses["commit"]) == 0
        ours.step(out.sums, draws(step))
    ours.eval()
    z = latents(CASE, seed=50, batch=8)
    errors = [z.square().mean()]
    for depth in range(1, 4):
        ids = ours.encode(z).unbind(-1)[:depth]
        parts = [q.look_up(i) for q, i in zip(ours._quantizers(), ids, strict=False)]
        errors.append((z.movedim(1, -1) - sum(parts)).square().mean())
    # Each takes off a good share of what was left over.
    for before, after in pairwise(errors):
        assert after < (0.9 if shared else 0.6) * before
    assert all(len(ids.unique()) > 8 for ids in ours.encode(z).unbind(-1))


def test_settings_reach_every_quantizer() -> None:
    ours = quantizer(decay=0.5, codebook_update="gradient", commitment_weight=0.25)
    for stage in ours._quantizers():
        assert stage.decay == 0.5
        assert not stage.by_average
    losses = ours(latents(CASE)).losses
    expected = 0.25 * losses["commit"] + losses["codebook"]
    torch.testing.assert_close(ours.total_loss(losses), expected)


def test_gradient_codebooks_learn_from_what_they_were_given() -> None:
    ours = quantizer(codebook_update="gradient")
    out = ours(latents(CASE).requires_grad_())
    (out.z.square().sum() + out.losses["commit"]).backward(retain_graph=True)
    assert all(stage.embedding.weight.grad is None for stage in ours._quantizers())
    out.losses["codebook"].backward()
    ids, rests, _ = by_hand(ours, to_rows(latents(CASE)))
    for place, stage in enumerate(ours._quantizers()):
        codes = stage.embedding.weight.detach().requires_grad_()
        (F.mse_loss(codes[ids[:, place]], rests[place]) / 3).backward()
        torch.testing.assert_close(stage.embedding.weight.grad, codes.grad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_quantizers": 0}, "num_quantizers is at least 1; got 0"),
        (
            {"use_cosine_sim": True},
            "the quantizer 'residual' takes no use_cosine_sim: what is left over gets shorter, "
            "and codes of unit length do not",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        quantizer(**settings)
    assert str(error.value) == message
