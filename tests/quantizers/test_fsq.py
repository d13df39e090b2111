"""Finite scalar quantization."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from quantizers.cases import Case, latents

from vqtok.errors import ConfigError
from vqtok.estimators import ESTIMATORS
from vqtok.quantizers import to_rows
from vqtok.quantizers.fsq import FiniteScalarQuantizer

SHAPES = [(8, 5, 5, 5), (3, 4), (7,), (16, 3, 5)]


def quantizer(levels: tuple[int, ...], **settings: Any) -> FiniteScalarQuantizer:
    return FiniteScalarQuantizer(len(levels), math.prod(levels), levels=levels, **settings)


@pytest.mark.parametrize("levels", SHAPES)
def test_it_computes_what_vector_quantize_pytorch_computes(levels: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ

    theirs, ours = FSQ(list(levels)), quantizer(levels)
    wide = 3 * latents(Case("fsq", len(levels), 0, {}), batch=4, grid=(8, 8))
    z, y = wide.clone().requires_grad_(), wide.clone().requires_grad_()
    out = ours(z)
    q, ids = theirs(y)
    assert torch.equal(out.codes, ids.long())
    torch.testing.assert_close(out.z, q)
    out.z.square().sum().backward()
    q.square().sum().backward()
    torch.testing.assert_close(z.grad, y.grad)
    every = torch.arange(math.prod(levels))
    torch.testing.assert_close(ours.look_up(every), theirs._indices_to_codes(every))


def test_all_values_are_reached() -> None:
    ours = quantizer((6, 5, 3))
    z = 2 * latents(Case("fsq", 3, 90, {}), batch=8, grid=(32, 32))
    assert len(ours.encode(z).unique()) == 90
    assert sorted(set(ours.decode(ours.encode(z))[:, 0].flatten().tolist())) == pytest.approx(
        [-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3]
    )


def test_ids_are_those_of_rounding_in_float64() -> None:
    ours = quantizer((8, 5))
    z = latents(Case("fsq", 2, 40, {}), grid=(50, 50))
    rows = to_rows(z).double()
    half = torch.tensor([7, 4]).double() * 1.001 / 2
    offset = torch.tensor([0.5, 0]).double()
    bounded = torch.tanh(rows + torch.atanh(offset / half)) * half - offset
    digits = bounded.round().long() + torch.tensor([4, 2])
    assert torch.equal(ours.encode(z).flatten(), digits[:, 0] + 8 * digits[:, 1])


@pytest.mark.parametrize("name", ["ste", "rotation", "diveq"])
def test_estimators_act_on_bounded_and_rounded(name: str) -> None:
    ours = quantizer((8, 5, 5, 5), estimator=name)
    z = latents(Case("fsq", 4, 1000, {})).requires_grad_()
    rows = to_rows(z.detach()).requires_grad_()
    ours(z, generator=torch.Generator().manual_seed(0)).z.square().sum().backward()
    e, q = ours.compared(rows), ours.look_up(ours.find(rows))
    generator = torch.Generator().manual_seed(0)
    ESTIMATORS[name](e, q, generator=generator).square().sum().backward()
    torch.testing.assert_close(to_rows(z.grad), rows.grad)


def test_the_rounding_error_costs_nothing_unless_asked_for() -> None:
    z = latents(Case("fsq", 2, 40, {}))
    free, priced = quantizer((8, 5)), quantizer((8, 5), commitment_weight=2.0)
    out = free(z)
    assert float(out.losses["commit"]) > 0
    assert float(free.total_loss(out.losses)) == 0
    assert torch.equal(priced.total_loss(out.losses), 2 * out.losses["commit"])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (4, 512, (8, 5, 5, 5)),
            "levels=(8, 5, 5, 5) make codebook_size=1000 and dim=4; "
            "got codebook_size=512 and dim=4",
        ),
        (
            (3, 1000, [8, 5, 5, 5]),
            "levels=(8, 5, 5, 5) make codebook_size=1000 and dim=4; "
            "got codebook_size=1000 and dim=3",
        ),
        (
            (2, 16, (8, 2)),
            "levels are whole numbers of at least 3 (for two values a dimension there is the "
            "quantizer 'lfq'); got levels=(8, 2)",
        ),
        (
            (2, 40, (8, 5.0)),
            "levels are whole numbers of at least 3 (for two values a dimension there is the "
            "quantizer 'lfq'); got levels=(8, 5.0)",
        ),
    ],
)
def test_settings_that_cannot_be(shape: tuple[Any, ...], message: str) -> None:
    dim, codebook_size, levels = shape
    with pytest.raises(ConfigError) as error:
        FiniteScalarQuantizer(dim, codebook_size, levels=levels)
    assert str(error.value) == message
