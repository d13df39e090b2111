"""SimVQ: a frozen codebook behind a learned map."""

from __future__ import annotations

import pytest
import torch
from quantizers.cases import Case, latents

from vqtok.quantizers.simvq import SimVectorQuantizer

CASE = Case("simvq", 4, 32, {})


@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_it_computes_what_vector_quantize_pytorch_computes(estimator: str) -> None:
    from vector_quantize_pytorch import SimVQ

    torch.manual_seed(0)
    theirs = SimVQ(4, 32, channel_first=True, rotation_trick=estimator == "rotation")
    ours = SimVectorQuantizer(4, 32, estimator=estimator, estimator_args=_strict(estimator))
    ours.load_state_dict(
        {"embedding.weight": theirs.frozen_codebook, "embedding.map": theirs.code_transform.weight}
    )
    z, y = (latents(CASE, batch=4).requires_grad_() for _ in range(2))
    out = ours(z)
    q, ids, loss = theirs(y)
    assert torch.equal(out.codes, ids)
    torch.testing.assert_close(out.z, q)
    torch.testing.assert_close(ours.total_loss(out.losses), loss)
    (out.z.mul(z.detach()).sum() + ours.total_loss(out.losses)).backward()
    (q.mul(y.detach()).sum() + loss).backward()
    torch.testing.assert_close(z.grad, y.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.embedding.map.grad, theirs.code_transform.weight.grad)


def _strict(estimator: str) -> dict[str, bool]:
    return {"strict": True} if estimator == "rotation" else {}


def test_the_map_learns_and_the_codebook_does_not() -> None:
    ours = SimVectorQuantizer(4, 32)
    assert {name for name, p in ours.named_parameters() if p.requires_grad} == {"embedding.map"}
    ours.total_loss(ours(latents(CASE)).losses).backward()
    assert ours.embedding.map.grad is not None
    assert ours.embedding.map.grad.abs().sum() > 0


def test_losses_have_weights() -> None:
    ours = SimVectorQuantizer(4, 32, commitment_weight=2.0, codebook_weight=3.0)
    losses = ours(latents(CASE)).losses
    assert torch.equal(ours.total_loss(losses), 2 * losses["commit"] + 3 * losses["codebook"])


def test_every_code_moves_with_the_map() -> None:
    ours = SimVectorQuantizer(4, 32)
    before = ours.look_up(torch.arange(32)).detach()
    with torch.no_grad():
        ours.embedding.map += 0.1
    assert (ours.look_up(torch.arange(32)) != before).any(1).all()


def test_codes_do_not_depend_on_where_the_weights_lie() -> None:
    """A file that is mapped into memory has its tensors at any address."""
    torch.manual_seed(0)
    here, there = SimVectorQuantizer(37, 1001), SimVectorQuantizer(37, 1001)
    for name in ("weight", "map"):
        values = getattr(here.embedding, name).detach()
        shifted = torch.empty(values.numel() + 1)[1:].view_as(values).copy_(values)
        getattr(there.embedding, name).data = shifted
    assert torch.equal(here.embedding.table(), there.embedding.table())
    one = here.decode(torch.tensor([[5]]))
    assert torch.equal(here.decode(torch.arange(1001)[None])[:, :, 5:6], one)


def test_it_starts_as_its_paper_does() -> None:
    torch.manual_seed(0)
    ours = SimVectorQuantizer(16, 4096)
    assert float(ours.embedding.weight.std()) == pytest.approx(0.25, rel=0.02)
    assert float(ours.embedding.map.detach().abs().max()) == pytest.approx(0.25, rel=0.02)


def test_straight_through_is_the_default() -> None:
    assert SimVectorQuantizer(4, 32).estimator.name == "ste"
