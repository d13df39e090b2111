from __future__ import annotations

import io

import pytest
import torch

from vqtok.training.losses.lecam import LeCAM

REAL = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
FAKE = torch.tensor([[-2.0, 1.0], [0.25, -3.0]])


def started(real: float = 1.0, fake: float = -1.0, decay: float = 0.9) -> LeCAM:
    lecam = LeCAM(decay)
    lecam.update(torch.tensor(real), torch.tensor(fake))
    return lecam


def test_nothing_until_there_are_means() -> None:
    real = REAL.clone().requires_grad_()
    penalty = LeCAM()(real, FAKE)
    penalty.backward()
    assert penalty.item() == 0
    assert real.grad is not None
    assert real.grad.abs().max() == 0


def test_the_formula() -> None:
    # (2+1)², (−1+1)², (.5+1)², (3+1)²; (1+2)², (1−1)², (1−.25)², (1+3)²
    expected = (9 + 0 + 2.25 + 16) / 4 + (9 + 0 + 0.5625 + 16) / 4
    assert started()(REAL, FAKE).item() == pytest.approx(expected)


def test_only_what_lies_beyond_the_other_mean_counts() -> None:
    assert started()(torch.tensor([-1.0, -5.0]), torch.tensor([1.0, 5.0])).item() == 0


def test_the_gradient_draws_both_sides_together() -> None:
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    started()(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    torch.testing.assert_close(real.grad, 2 * (REAL + 1).clamp_min(0) / 4)
    torch.testing.assert_close(fake.grad, -2 * (1 - FAKE).clamp_min(0) / 4)


def test_a_batch_has_the_mean_of_its_halves() -> None:
    lecam = started()
    halves = [lecam(r, f) for r, f in zip(REAL.chunk(2), FAKE.chunk(2), strict=True)]
    torch.testing.assert_close(torch.stack(halves).mean(), lecam(REAL, FAKE))


def test_the_first_means_are_taken_as_they_are_and_later_ones_by_the_decay() -> None:
    lecam = started(1.0, -1.0, decay=0.9)
    assert (lecam.real.item(), lecam.fake.item(), bool(lecam.started)) == (1.0, -1.0, True)
    lecam.update(torch.tensor(2.0), torch.tensor(0.0))
    assert lecam.real.item() == pytest.approx(1.1)
    assert lecam.fake.item() == pytest.approx(-0.9)
    lecam.update(torch.tensor(-3.0), torch.tensor(4.0))
    assert lecam.real.item() == pytest.approx(0.69)
    assert lecam.fake.item() == pytest.approx(-0.41)


def test_a_penalty_moves_no_mean() -> None:
    lecam = started()
    before = {name: buffer.clone() for name, buffer in lecam.named_buffers()}
    lecam.train()(REAL, FAKE)
    for name, buffer in lecam.named_buffers():
        assert torch.equal(buffer, before[name])


def test_the_means_are_all_that_a_checkpoint_needs_and_no_weights() -> None:
    lecam, other, stream = started(0.75, -0.5), LeCAM(0.9), io.BytesIO()
    assert not list(lecam.parameters())
    torch.save(lecam.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(REAL, FAKE), lecam(REAL, FAKE))
    for one in (lecam, other):
        one.update(torch.tensor(0.1), torch.tensor(0.2))
    assert torch.equal(other.real, lecam.real)
    assert torch.equal(other.fake, lecam.fake)


def test_means_carry_no_graph() -> None:
    lecam = LeCAM()
    lecam.update(REAL.clone().requires_grad_().mean(), FAKE.mean())
    assert not lecam.real.requires_grad


def test_half_precision_is_worked_out_in_float32() -> None:
    lecam = started(1.001, -1.001)  # more finely than bfloat16 can say
    with torch.autocast("cpu", torch.bfloat16):
        half = lecam(REAL.bfloat16(), FAKE.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, lecam(REAL, FAKE))
