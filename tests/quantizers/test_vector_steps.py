"""How the vector quantizer's codebook starts, and what becomes of codes that die."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizers.cases import assert_same_state, joined, state
from quantizers.vectors import draws, latents, quantizer
from torch import Tensor

from vqtok.quantizers import to_rows
from vqtok.quantizers.vector import VectorQuantizer

# --- the start ----------------------------------------------------------------------------------

CENTRES = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])


def blobs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = CENTRES.repeat(36, 1) + 0.1 * torch.randn(144, 2, generator=generator)
    rows = rows[torch.randperm(144, generator=generator)]
    return rows.view(1, 12, 12, 2).movedim(-1, 1).contiguous()


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_start_from_data_finds_the_data(update: Any) -> None:
    ours = VectorQuantizer(2, 16, start="data", kmeans_iters=4, codebook_update=update)
    for step in range(4):
        z = blobs(step).requires_grad_()
        out = ours(z)
        assert torch.equal(out.z, z)
        assert all(float(loss.detach()) == 0 for loss in out.losses.values())
        assert bool(ours.is_open())
        out.z.sum().backward()
        assert torch.equal(z.grad, torch.ones_like(z))
        ours.step(out.sums, draws(step))
    assert not bool(ours.is_open())
    apart = torch.cdist(ours.embedding.weight.detach(), CENTRES)
    assert (apart.amin(1) < 0.4).all()
    assert (apart.amin(0) < 0.2).all()
    out = ours(blobs(9))
    assert float(out.losses["commit"].detach()) < 0.01
    assert torch.equal(out.z, ours.decode(out.codes))


def test_the_start_forgets_what_was_there_before() -> None:
    ours = quantizer(start="data", kmeans_iters=3)
    ours.step(ours(latents()).sums, draws())
    rows = to_rows(latents())
    assert (ours.embedding.weight[:, None] == rows).all(2).any(1).all()


def test_after_the_start_codes_are_means_of_the_last_batch() -> None:
    ours = VectorQuantizer(2, 16, start="data", kmeans_iters=4)
    for step in range(4):
        out = ours(blobs(step))
        ours.step(out.sums, draws(step))
    used = out.sums.count > 0
    means = out.sums.total[used] / out.sums.count[used, None]
    torch.testing.assert_close(ours.embedding.weight[used], means)
    torch.testing.assert_close(ours.count[used], out.sums.count[used])
    torch.testing.assert_close(ours.total, ours.embedding.weight * ours.count[:, None])


def test_quantization_may_wait_longer_than_the_start_takes() -> None:
    ours = quantizer(start="data", kmeans_iters=2, quantize_after=5)
    untouched = ours.embedding.weight.clone()
    for step in range(5):
        out = ours(latents(seed=step))
        assert torch.equal(out.z, latents(seed=step))
        ours.step(out.sums, draws())
        assert torch.equal(ours.embedding.weight, untouched) == (step < 3)
    assert not torch.equal(ours(latents()).z, latents())


def test_quantization_may_wait_for_any_start() -> None:
    ours = quantizer(start="kaiming", quantize_after=1)
    assert torch.equal(ours(latents()).z, latents())
    ours.step(ours(latents()).sums)
    assert not torch.equal(ours(latents()).z, latents())


def test_a_start_that_was_interrupted_goes_on_where_it_stopped() -> None:
    def run(ours: VectorQuantizer, steps: range) -> None:
        for step in steps:
            ours.step(ours(latents(seed=step)).sums, draws(step))

    whole, first, second = (quantizer(start="data", kmeans_iters=4) for _ in range(3))
    run(whole, range(6))
    run(first, range(2))
    second.load_state_dict(first.state_dict())
    run(second, range(2, 6))
    assert_same_state(state(whole), state(second))


def test_few_vectors_fill_the_codebook_over_several_batches() -> None:
    ours = quantizer(codes=64, start="data", kmeans_iters=3, candidates_per_item=8)
    for step in range(3):
        ours.step(ours(latents(batch=2, seed=step)).sums, draws(step))
    assert ours.embedding.weight.isfinite().all()
    assert len(ours(latents(batch=8)).codes.unique()) > 30


# --- dead codes ---------------------------------------------------------------------------------


def with_counts(count: Tensor, **settings: Any) -> VectorQuantizer:
    ours = quantizer(decay=0.5, **settings)
    ours.count.copy_(count)
    ours.total.copy_(ours.embedding.weight * count[:, None])
    return ours


def test_resample_moves_the_dead_codes_alone() -> None:
    count = torch.full((16,), 10.0)
    count[[2, 5, 11]] = 1e-3
    ours, still = (with_counts(count, dead_codes=rule) for rule in ("resample", "off"))
    z = latents(batch=1, side=3) * 0.01 + still.embedding.weight[0].view(1, 4, 1, 1)
    sums = still(z).sums
    assert sums.count.nonzero().flatten().tolist() == [0]
    ours.step(sums, draws())
    still.step(sums, draws())
    least = 0.03 * float(still.count.mean())
    dead = (still.count < least).nonzero().flatten().tolist()
    assert dead == [2, 5, 11]
    moved = (ours.embedding.weight != still.embedding.weight).any(1)
    assert moved.nonzero().flatten().tolist() == dead
    for row in ours.embedding.weight[dead]:
        assert (row == to_rows(z)).all(1).any()
    assert len(ours.embedding.weight[dead].unique(dim=0)) == 3
    torch.testing.assert_close(ours.count[dead], torch.full((3,), least))
    torch.testing.assert_close(ours.total[dead], ours.embedding.weight[dead] * least)


def test_resample_serves_a_gradient_codebook() -> None:
    ours = quantizer(codebook_update="gradient", dead_codes="resample", decay=0.5)
    for step in range(12):
        ours.step(ours(latents(batch=1, side=3)).sums, draws(step))
    rows = to_rows(latents(batch=1, side=3))
    sits = (ours.embedding.weight.detach()[:, None] == rows).all(2).any(1)
    assert sits.any()
    assert not sits.all()


def test_more_dead_codes_than_candidates() -> None:
    ours = with_counts(torch.zeros(16).index_fill(0, torch.tensor([0]), 100.0))
    sums = ours(latents(batch=1, side=2)).sums
    ours.step(sums, draws())
    assert ours.embedding.weight.isfinite().all()


def test_cvq_draws_codes_by_how_little_they_are_used() -> None:
    count = torch.linspace(0, 15, 16)
    ours, still = (with_counts(count, dead_codes=rule) for rule in ("cvq", "off"))
    sums = ours(latents(batch=1)).sums
    ours.step(sums, draws())
    still.step(sums, draws())
    share = still.count / still.count.sum()
    pull = torch.exp(-10 * 16 * share / 0.5)[:, None]
    order = torch.randperm(len(sums.candidates), generator=draws())
    anchors = sums.candidates[order][:16]
    expected = still.embedding.weight * (1 - pull) + anchors * pull
    torch.testing.assert_close(ours.embedding.weight, expected)
    torch.testing.assert_close(ours.total, expected * still.count[:, None])
    torch.testing.assert_close(ours.count, still.count)


def test_equal_generators_make_equal_steps_and_others_do_not() -> None:
    first, same, other = (with_counts(torch.zeros(16)) for _ in range(3))
    sums = first(latents(batch=1, side=2)).sums
    for ours, seed in ((first, 0), (same, 0), (other, 1)):
        ours.step(sums, draws(seed))
    assert_same_state(state(first), state(same))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


# --- candidates ---------------------------------------------------------------------------------


def test_candidates_are_spread_over_each_picture() -> None:
    ours = quantizer(dim=1, candidates_per_item=8)
    z = torch.arange(200.0).view(1, 1, 20, 10).repeat(3, 1, 1, 1)
    z += 1000 * torch.arange(3.0).view(3, 1, 1, 1)
    found = ours(z).sums.candidates.view(3, 8)
    assert torch.equal(found - found[:1], 1000 * torch.arange(3.0)[:, None].expand(3, 8))
    assert ((found[0] / 25).long() == torch.arange(8)).all()
    ours.steps += 1
    assert not torch.equal(ours(z).sums.candidates.view(3, 8), found)


def test_small_pictures_give_what_they_have() -> None:
    ours = quantizer(candidates_per_item=64)
    sums = ours(latents(batch=2, side=3)).sums
    assert sums.candidates.shape == (18, 4)
    assert len(sums.candidates.unique(dim=0)) == 18


def test_joined_sums_are_those_of_the_joint_batch_during_the_start() -> None:
    whole, parts = (quantizer(start="data", kmeans_iters=2) for _ in range(2))
    for step in range(3):
        z = latents(batch=4, seed=step)
        whole.step(whole(z).sums, draws(step))
        parts.step(joined(*(parts(half).sums for half in z.split(2))), draws(step))
        torch.testing.assert_close(whole.embedding.weight, parts.embedding.weight)


def test_every_code_gets_its_turn_before_one_gets_another() -> None:
    """More codes than one batch has candidates for: the starts of several batches add up."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 512, kmeans_iters=4).train()
    untouched = quantizer.embedding.weight.clone()
    per_batch = 2 * quantizer.candidates_per_item
    for batch in range(1, 5):
        quantizer.step(quantizer(torch.randn(2, 4, 16, 16)).sums)
        moved = (quantizer.embedding.weight != untouched).any(1).sum()
        assert moved >= min(512, batch * per_batch)


def test_without_a_generator_ranks_draw_alike() -> None:
    made = []
    for seed in (0, 1):
        torch.manual_seed(3)
        quantizer = VectorQuantizer(4, 64).train()
        sums = quantizer(torch.randn(2, 4, 16, 16)).sums
        torch.manual_seed(seed)
        quantizer.step(sums)
        made.append(quantizer.embedding.weight.clone())
    assert torch.equal(*made)
