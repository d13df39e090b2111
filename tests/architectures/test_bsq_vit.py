from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import Architecture
from vqtok.architectures.bsq_vit import Attention, Trunk, bsq_vit
from vqtok.autoencoders import AutoencoderVQBSQViT
from vqtok.errors import ConfigError


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": 4,
        "sample_size": 16,
        "latent_channels": 12,
        "depth": 2,
        "heads": 3,
        "mlp_dim": 20,
        "output_dim": 10,
    }
    return bsq_vit(**{**settings, **changes})


@torch.no_grad()
def test_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, x = Attention(12, 3), torch.randn(2, 7, 12)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.copy_(ours.qkv.weight)
    theirs.in_proj_bias.copy_(ours.qkv.bias.normal_())
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


@torch.no_grad()
def test_the_layers_of_the_paper() -> None:
    net, x = make(), torch.randn(2, 3, 16, 16)
    trunk = net.encoder.trunk
    patches = F.unfold(x, 4, stride=4).movedim(1, 2) @ net.encoder.from_patch.weight.flatten(1).T
    tokens = trunk.norm_in(patches + trunk.positions.flatten(1).T)
    for block in trunk.blocks:
        tokens = tokens + block.attention(block.attention_norm(tokens))
        first, act, second = block.mlp
        assert isinstance(act, nn.GELU)
        tokens = tokens + second(F.gelu(first(block.mlp_norm(tokens))))
    expected = trunk.norm(tokens).movedim(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(net.encoder(x), expected, atol=1e-5)

    codes = torch.randn(2, 12, 4, 4)
    features = net.decoder.trunk(codes).flatten(2).movedim(1, 2)
    flat = net.decoder.to_patch(torch.tanh(net.decoder.output(features)))
    folded = F.fold(flat.movedim(1, 2), (16, 16), 4, stride=4)
    assert torch.allclose(net.decoder(codes), folded, atol=1e-6)


def places(trunk: Trunk, h: int, w: int) -> Tensor:
    """The positions that a grid of this size sees."""
    seen: list[Tensor] = []
    handle = trunk.norm_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    trunk(torch.zeros(1, 12, h, w))
    handle.remove()
    return seen[0][0].T.unflatten(1, (h, w))


@torch.no_grad()
def test_positions_of_other_sizes_lie_between_those_that_are_learned() -> None:
    trunk = make().encoder.trunk
    learned = trunk.positions
    assert torch.equal(places(trunk, 4, 4), learned)
    grown = places(trunk, 8, 4)
    middle = 0.75 * learned[:, 1] + 0.25 * learned[:, 0]
    assert torch.allclose(grown[:, 2], middle, atol=1e-6)
    assert torch.equal(grown[:, 0], learned[:, 0])


def test_the_published_networks() -> None:
    with torch.device("meta"):
        ours = AutoencoderVQBSQViT()
    shapes = {name: tuple(weight.shape) for name, weight in ours.named_parameters()}
    assert shapes["encoder.from_patch.weight"] == (768, 3, 8, 8)
    assert "encoder.from_patch.bias" not in shapes
    assert shapes["encoder.trunk.positions"] == (768, 32, 32)
    assert shapes["encoder.trunk.blocks.11.attention.qkv.weight"] == (2304, 768)
    assert shapes["encoder.trunk.blocks.11.mlp.0.weight"] == (3072, 768)
    assert shapes["quant_conv.weight"] == (18, 768, 1, 1)
    assert shapes["decoder.output.weight"] == (3072, 768)
    assert shapes["decoder.to_patch.weight"] == (192, 3072)
    assert ours.quantize.codebook_size == 1 << 18 and ours.stride == (8, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is at least 1; got 0"),
        (
            {"heads": 5},
            "heads share latent_channels evenly; got heads=5 and latent_channels=12",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**changes)
    assert str(error.value) == message
