"""Index backpropagation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizers.cases import CASES, build, latents
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.quantizers import ibq, to_rows
from vqtok.quantizers.ibq import IndexBackpropQuantizer

CASE = CASES["ibq"]


def made(**changes: object) -> IndexBackpropQuantizer:
    quantizer = build(CASE, started=False, **changes)
    assert isinstance(quantizer, IndexBackpropQuantizer)
    return quantizer


@given(seed=st.integers(0, 2**16))
def test_ids_are_those_of_the_highest_product(seed: int) -> None:
    ours, z = made().eval(), latents(CASE, grid=(6, 5), seed=seed)
    products = to_rows(z).double() @ ours.embedding.weight.double().T
    assert torch.equal(ours.encode(z).flatten(), products.argmax(1))


def test_the_lowest_of_equals_wins() -> None:
    ours = IndexBackpropQuantizer(2, 4).eval()
    ours.embedding.weight.data = torch.tensor([[1.0, 0], [2, 1], [2, -3], [2, 1]])
    z = torch.tensor([[1.0, 0], [0, 1], [0, -1], [0, 0], [-1, 0]]).T[None]
    assert ours.encode(z).tolist() == [[1, 1, 2, 0, 0]]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_the_gradient_is_that_of_the_written_out_one_hot(seed: int) -> None:
    """In float64: the chosen code, and the softmax of all scores around fixed codes."""
    ours, z = made(), latents(CASE, seed=seed).requires_grad_()
    weights = torch.randn(2, CASE.dim, 3, 4)
    (ours(z).z * weights).sum().backward()
    e, g = to_rows(z).detach().double(), to_rows(weights).double()
    table = ours.embedding.weight.detach().double()
    shares = (e @ table.T).softmax(1)
    gain = g @ table.T
    slope = shares * (gain - (shares * gain).sum(1, keepdim=True))
    chosen = F.one_hot(ours.encode(z).flatten(), CASE.codebook_size).double()
    assert z.grad is not None and ours.embedding.weight.grad is not None
    torch.testing.assert_close(to_rows(z.grad).double(), slope @ table, rtol=1e-4, atol=1e-5)
    whole = slope.T @ e + chosen.T @ g
    torch.testing.assert_close(ours.embedding.weight.grad.double(), whole, rtol=1e-4, atol=1e-5)


def test_every_code_moves() -> None:
    ours, z = made(), latents(CASE, batch=1, grid=(1, 2))
    out = ours(z)
    out.z.square().sum().backward()
    assert ours.embedding.weight.grad is not None
    assert (ours.embedding.weight.grad.abs().sum(1) > 0).all()
    assert len(out.codes.unique()) < CASE.codebook_size


def test_losses_are_weighed() -> None:
    ours = made(
        commitment_weight=2.0,
        codebook_weight=3.0,
        double_weight=5.0,
        entropy_loss_weight=7.0,
        diversity_gamma=0.5,
        entropy_temperature=0.7,
    )
    z = latents(CASE)
    losses = ours(z).losses
    e, table = to_rows(z).double(), ours.embedding.weight.detach().double()
    gap = (e - table[ours.encode(z).flatten()]).square().mean().float()
    for name in ("commit", "codebook", "double"):
        torch.testing.assert_close(losses[name].detach(), gap)
    shares = (e @ table.T / 0.7).softmax(1)
    sure, mean = -(shares * shares.log()).sum(1).mean(), shares.mean(0)
    entropy = sure - 0.5 * -(mean * (mean + 1e-5).log()).sum()
    torch.testing.assert_close(losses["entropy"].detach(), entropy.float())
    torch.testing.assert_close(
        ours.total_loss(losses).detach(), 10 * gap + 7 * entropy.float(), rtol=1e-5, atol=1e-6
    )


def test_without_an_entropy_loss() -> None:
    ours = made(entropy_loss_weight=0.0)
    losses = ours(latents(CASE)).losses
    assert set(losses) == {"commit", "codebook", "double"}
    assert ours.total_loss(losses) == 2.25 * losses["commit"]


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z = latents(CASE, batch=3, grid=(5, 7))

    def both() -> tuple[Tensor, Tensor, Tensor]:
        ours, x = made(), z.clone().requires_grad_()
        out = ours(x)
        (out.z.square().sum() + ours.total_loss(out.losses)).backward()
        assert x.grad is not None and ours.embedding.weight.grad is not None
        return out.losses["entropy"].detach(), x.grad, ours.embedding.weight.grad

    whole = both()
    monkeypatch.setattr(ibq, "SCORES", 20 * CASE.codebook_size)
    held: list[int] = []
    mix_block = ibq._mix_block
    monkeypatch.setattr(
        ibq,
        "_mix_block",
        lambda rows, *rest: held.append(len(rows)) or mix_block(rows, *rest),
    )
    for a, b in zip(whole, both(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert max(held) == 20 and sum(held) == 2 * 105  # once more in the backward pass


def test_blocks_are_not_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the size of a block's scores is saved."""
    monkeypatch.setattr(ibq, "SCORES", 20 * 64)
    ours = IndexBackpropQuantizer(4, 64)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        ours(latents(CASE, grid=(9, 9)).requires_grad_())
    assert max(sizes) < 20 * 64


def test_without_gradients_eval_takes_no_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, z = made(), latents(CASE)
    whole = ours(z)
    monkeypatch.setattr(ibq, "mix", lambda *_: pytest.fail("scores of all codes were made"))
    with torch.no_grad():
        out = ours.eval()(z)
    assert torch.equal(out.codes, whole.codes) and torch.equal(out.z, whole.z)
    assert set(out.losses) == {"commit", "codebook", "double"}
    assert all(torch.equal(loss, whole.losses[name]) for name, loss in out.losses.items())
    assert ours.total_loss(out.losses) == 2.25 * out.losses["commit"]


def test_the_gradient_crosses_in_eval() -> None:
    ours, z = made().eval(), latents(CASE).requires_grad_()
    ours(z).z.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"estimator": "rotation"},
            "the quantizer 'ibq' passes its gradient through the softmax of all codes and takes no "
            "estimator; got estimator='rotation'",
        ),
        ({"entropy_temperature": 0.0}, "entropy_temperature is positive; got 0.0"),
        ({"start": "data"}, "the codes of 'ibq' start as 'normal', 'uniform' or 'kaiming'"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        made(**changes)
    assert str(error.value) == message
