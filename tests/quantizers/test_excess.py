"""`Quantizer.excess`: by what share an id is farther from its vector than the nearest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizers.cases import CASES, Case, build, latents
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import CodesError
from vqtok.quantizers import to_rows

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# One code a token, so that all distances of a token can be written down.
SINGLE = {
    label: case
    for label, case in CASES.items()
    if case.name not in ("residual", "multiscale", "grouped") and label != "bsq, several ids"
}


@every_case
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_law(case: Case, seed: int) -> None:
    """0 for the quantizer's own ids, more for any other, and the ids before it stay 0."""
    quantizer, z = build(case).eval(), latents(case, seed=seed)
    codes = quantizer.encode(z)
    own = quantizer.excess(z, codes)
    assert (own.dtype, own.shape) == (torch.float64, codes.shape)
    assert own.eq(0).all()
    generator = torch.Generator().manual_seed(seed)
    flat = codes.flatten(1)
    place = int(torch.randint(flat.shape[1], (1,), generator=generator))
    other = torch.randint(1, case.codebook_size, (len(z),), generator=generator)
    flat = flat.clone()
    flat[:, place] = (flat[:, place] + other) % case.codebook_size
    found = quantizer.excess(z, flat.view(codes.shape)).flatten(1)
    assert (found[:, place] > 0).all()
    assert found[:, :place].eq(0).all()


@pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE)
def test_every_id_beside_all_distances(case: Case) -> None:
    quantizer, z = build(case).eval(), latents(case)
    far = distances(case, quantizer, to_rows(z).double())
    least = far.amin(1)
    for ids in (quantizer.encode(z), latent_ids(case, z)):
        found = quantizer.excess(z, ids).flatten()
        expected = far.gather(1, ids.flatten()[:, None])[:, 0] / least - 1
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def distances(case: Case, quantizer: Any, e: Tensor) -> Tensor:
    """(N, D) float64 -> (N, K): of each vector from each code, as the quantizer compares them."""
    codes = quantizer.vectors(torch.arange(case.codebook_size)).double()
    if case.name == "gumbel":
        return lacks(e, quantizer.proj.weight.double(), quantizer.proj.bias.double())
    if case.name == "ibq":
        return lacks(e, codes, codes.new_zeros(len(codes)))
    if case.name == "bsq" or case.settings.get("use_cosine_sim"):
        e = F.normalize(e)
    if case.name == "fsq":
        e = quantizer.compared(e)
    return (e[:, None] - codes).norm(dim=2)


def lacks(e: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    most = e.norm(dim=1) * weight.norm(dim=1).max() + bias.max()
    return (most[:, None] - e @ weight.T - bias).sqrt().detach()


def latent_ids(case: Case, z: Tensor) -> Tensor:
    """Any ids, of the shape that those of `z` have."""
    generator = torch.Generator().manual_seed(5)
    return torch.randint(case.codebook_size, (len(z), *z.shape[2:]), generator=generator)


@pytest.mark.parametrize("name", ["residual", "residual, shared", "multiscale"])
def test_what_follows_another_id_is_judged_by_itself(name: str) -> None:
    """An id that another arithmetic flips changes those after it: they are the nearest still."""
    case = CASES[name]
    quantizer, z = build(case).eval(), latents(case, batch=1, grid=(4, 4))
    codes = quantizer.encode(z)
    flipped = codes.clone().flatten()
    flipped[0] = (flipped[0] + 1) % case.codebook_size
    flipped = flipped.view(codes.shape)
    if name == "multiscale":
        areas = [h * w for h, w in quantizer.scales_of((4, 4))]
        given = [*flipped.split(areas, 1)]
        for number in range(1, len(areas)):
            rows = [one.rows for one in quantizer.descend(z, given)][number]
            given[number] = quantizer.table.find(rows[0])[None]
        flipped = torch.cat(given, 1)
    else:
        rest = to_rows(z)
        for number, ids in enumerate(flipped.flatten(0, 2).unbind(-1)):
            stage = quantizer.stages[number % len(quantizer.stages)]
            if number:
                flipped.flatten(0, 2)[:, number] = ids = stage.find(rest)
            rest = rest - stage.look_up(ids)
    off = quantizer.excess(z, flipped).flatten()
    assert off[0] > 1e-3
    assert off[1:].eq(0).all()
    assert (flipped != codes).sum() > 1


def test_a_vector_between_two_codes() -> None:
    quantizer = build(CASES["vector"]).eval()
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.randn(16, 4) * 10)
        quantizer.embedding.weight[:2] = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    z = torch.tensor([1e-6, 0, 1.0, 0]).view(1, 4, 1, 1)
    assert quantizer.encode(z).item() == 0
    # sqrt(2 + 2e-6) / sqrt(2 - 2e-6) - 1
    assert quantizer.excess(z, torch.ones(1, 1, 1).long()).item() == pytest.approx(1e-6, rel=1e-3)


def test_equal_codes_are_equally_far() -> None:
    quantizer = build(CASES["vector"]).eval()
    with torch.no_grad():
        quantizer.embedding.weight[:2] = torch.ones(4)
    z = torch.ones(1, 4, 1, 1)
    assert quantizer.excess(z, torch.ones(1, 1, 1).long()).item() == 0
    assert quantizer.excess(z, torch.full((1, 1, 1), 2)).item() == torch.inf


def test_a_code_without_a_direction_is_never_near() -> None:
    """It would be nearer than all codes at over 60 degrees, and yet no vector's."""
    quantizer = build(CASES["vector, cosine"]).eval()
    with torch.no_grad():
        weight = F.normalize(torch.randn(16, 4).abs(), dim=1)
        weight[3] = 0
        quantizer.embedding.weight.copy_(weight)
    z = -torch.ones(1, 4, 1, 1)
    assert quantizer.encode(z).item() != 3
    assert quantizer.excess(z, torch.full((1, 1, 1), 3)).item() > 0.1


@every_case
def test_codes_that_cannot_be(case: Case) -> None:
    quantizer, z = build(case).eval(), latents(case)
    codes = quantizer.encode(z)
    codes.view(-1)[0] = case.codebook_size
    with pytest.raises(CodesError, match="codes of this tokenizer lie in"):
        quantizer.excess(z, codes)
