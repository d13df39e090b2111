"""Quantizers side by side, each on its share of the dimensions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizers.cases import Case, assert_same_state, build, latents, state

from vqtok.errors import ConfigError, UnknownNameError
from vqtok.quantizers import QUANTIZERS
from vqtok.quantizers.grouped import GroupedQuantizer

CASE = Case("grouped", 6, 16, {"groups": 3})


def test_each_group_is_a_quantizer_of_its_own() -> None:
    ours = build(CASE)
    copies = [QUANTIZERS["vector"](2, 16) for _ in range(3)]
    for part, copy in zip(ours.parts, copies, strict=True):
        copy.load_state_dict(part.state_dict())
    z = latents(CASE)
    out = ours(z)
    each = [copy(own) for copy, own in zip(copies, z.split(2, 1), strict=True)]
    assert torch.equal(out.z, torch.cat([done.z for done in each], 1))
    assert torch.equal(out.codes, torch.stack([done.codes for done in each], -1))
    error = (z - out.z.detach()).square().mean()
    torch.testing.assert_close(out.losses["commit"].detach(), error)
    margins = [copy.margin(own) for copy, own in zip(copies, z.split(2, 1), strict=True)]
    assert torch.equal(ours.margin(z), torch.stack(margins).amin(0))
    ours.step(out.sums, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for copy, done, part in zip(copies, each, ours.parts, strict=True):
        copy.step(done.sums, generator)
        assert_same_state(state(copy), state(part))


def test_settings_and_weights_are_those_of_the_kind() -> None:
    ours = GroupedQuantizer(6, 16, groups=2, kind="simvq", codebook_weight=2.0)
    losses = ours(latents(CASE)).losses
    expected = 0.25 * losses["commit"] + 2 * losses["codebook"]
    torch.testing.assert_close(ours.total_loss(losses), expected)
    assert ours.commitment_weight == 0.25
    assert ours.estimator.name == "ste"
    turned = GroupedQuantizer(
        6, 16, groups=2, estimator="rotation", estimator_args={"strict": True}
    )
    assert [part.estimator_args for part in turned.parts] == [{"strict": True}] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 4}, "groups share the dimensions evenly; got groups=4 and dim=6"),
        ({"groups": 0}, "groups share the dimensions evenly; got groups=0 and dim=6"),
        (
            {"groups": 2, "kind": "residual", "num_quantizers": 2},
            "the groups of 'grouped' are quantizers with one code a token; 'residual' has more",
        ),
        (
            {"groups": 2, "kind": "grouped"},
            "the groups of 'grouped' are quantizers with one code a token; 'grouped' has more",
        ),
        (
            {"groups": 2, "estimator": "exact"},
            "the estimator 'exact' needs the loss as a function of whole vectors, and each group "
            "of 'grouped' has but its share; take another estimator",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        GroupedQuantizer(6, 16, **settings)
    assert str(error.value) == message


def test_an_unknown_kind() -> None:
    with pytest.raises(UnknownNameError) as error:
        GroupedQuantizer(6, 16, groups=2, kind="vektor")
    assert str(error.value) == (
        "there is no quantizer called 'vektor'. Did you mean 'vector'? "
        f"Known: {', '.join(QUANTIZERS)}."
    )
