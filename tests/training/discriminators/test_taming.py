"""Equal to taming-transformers' PatchGAN, with its batch norms put out of the way on both sides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vqtok.training.discriminators.patchgan import PatchGAN

taming = pytest.importorskip(
    "taming.modules.discriminator.model",
    reason="taming-transformers-rom1504 is not installed (dev.py setup does that)",
)


def pair(layers: int, channels: int) -> tuple[PatchGAN, nn.Module]:
    torch.manual_seed(layers)
    theirs = taming.NLayerDiscriminator(ndf=channels, n_layers=layers).apply(taming.weights_init)
    return PatchGAN(channels=channels, layers=layers), theirs


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_weights_have_their_shapes(layers: int) -> None:
    ours, theirs = pair(layers, channels=4)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_logits_are_theirs(layers: int) -> None:
    ours, theirs = pair(layers, channels=4)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.normal_(0, 0.2)
        mine.data.copy_(other)
    norms = iter(module for module in ours.modules() if isinstance(module, nn.GroupNorm))
    for at, layer in enumerate(theirs.main):
        if isinstance(layer, nn.BatchNorm2d):
            theirs.main[at] = next(norms)
    assert next(norms, None) is None
    side = 3 * 2**layers + 5
    x = torch.rand(2, 3, side, side + 3) * 2 - 1
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_weights_are_drawn_as_theirs() -> None:
    ours, theirs = pair(layers=2, channels=32)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if len(mine) > 1:
            assert mine.std().item() == pytest.approx(other.std().item(), rel=0.4, abs=1e-6)
            assert mine.mean().item() == pytest.approx(other.mean().item(), abs=0.02)
