from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import Architecture
from vqtok.architectures.positions import plane, waves
from vqtok.architectures.vit import Attention, Block, vit
from vqtok.autoencoders import AutoencoderVQViT
from vqtok.errors import ConfigError

CPU = torch.device("cpu")


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": 4,
        "sample_size": 32,
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
        "decoder_channels": 8,
        "decoder_depth": 3,
        "decoder_heads": 3,
        "decoder_mlp_dim": 20,
        "dim_head": 8,
    }
    return vit(**{**settings, **changes})


def test_a_block_is_a_layer_of_torch() -> None:
    """Of its norm-first kind with tanh, where heads are as wide as together they are D."""
    torch.manual_seed(0)
    ours = Block(16, 2, 8, 24)
    theirs = nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0, activation=torch.tanh, batch_first=True, norm_first=True
    )
    nn.init.zeros_(theirs.self_attn.in_proj_bias)
    for name, other in (
        ("attention_norm", theirs.norm1),
        ("attention.out", theirs.self_attn.out_proj),
        ("mlp_norm", theirs.norm2),
        ("mlp.0", theirs.linear1),
        ("mlp.2", theirs.linear2),
    ):
        own = ours.get_submodule(name)
        for weight in own.parameters():
            nn.init.normal_(weight, std=0.5)
        other.load_state_dict(own.state_dict())
    theirs.self_attn.in_proj_weight.data = ours.attention.qkv.weight.data
    x = torch.randn(2, 7, 16)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@torch.no_grad()
def test_heads_of_another_width() -> None:
    torch.manual_seed(0)
    ours = Attention(8, 3, 5)
    x = torch.randn(2, 4, 8)
    q, k, v = (part.view(2, 4, 3, 5).transpose(1, 2) for part in ours.qkv(x).split(15, -1))
    weights = F.softmax(q @ k.transpose(-1, -2) / 5**0.5, -1)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    assert torch.allclose(ours(x), ours.out(mixed), atol=1e-6)


def table(dim: int, height: int, width: int) -> Tensor:
    """The fixed positions of ViT-VQGAN, by their formula."""

    def along(position: int) -> list[float]:
        rates = [1 / 10_000 ** (i / (dim // 4)) for i in range(dim // 4)]
        return [f(position * rate) for f in (np.sin, np.cos) for rate in rates]

    return torch.tensor([along(x) + along(y) for y in range(height) for x in range(width)])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (3, 5), (1, 1)])
def test_positions(height: int, width: int) -> None:
    found = plane(height, width, 8, 16, CPU)
    assert found.dtype == torch.float32
    assert torch.allclose(found, table(16, height, width).float(), atol=1e-5)


def test_larger_pictures_have_the_positions_of_training() -> None:
    assert torch.allclose(waves(20, 10, 8, CPU)[::2], waves(10, 10, 8, CPU), atol=1e-5)
    whole = plane(20, 10, 10, 16, CPU).view(20, 10, 16)
    assert torch.allclose(whole[::2], plane(10, 10, 10, 16, CPU).view(10, 10, 16), atol=1e-5)


@torch.no_grad()
def test_patches_come_back_where_they_were() -> None:
    """Each network as a whole: of blocks that do nothing only patches and positions are left."""
    net = make(latent_channels=48, decoder_channels=48, depth=1, decoder_depth=1)
    for part in (net.encoder, net.decoder):
        for block in part.trunk.blocks:
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp[2].weight)
        part.trunk.norm = nn.Identity()
    net.encoder.from_patch.weight.copy_(torch.eye(48).view(48, 3, 4, 4))
    net.decoder.to_patch.weight.copy_(torch.eye(48).view(48, 3, 4, 4))
    x = torch.randn(2, 3, 12, 20)
    places = plane(3, 5, 8, 48, CPU).T.view(48, 3, 5)
    latents = net.encoder(x)
    assert torch.allclose(latents[:, :, 1, 2] - places[:, 1, 2], x[:, :, 4:8, 8:12].flatten(1))
    assert torch.allclose(net.decoder(latents - 2 * places), x, atol=1e-6)


@torch.no_grad()
def test_each_token_sees_all_others() -> None:
    net = make()
    x = torch.randn(1, 3, 16, 24)
    before = net.encoder(x)
    x[..., :4, :4] += 1
    assert ((net.encoder(x) - before).abs().sum(1) > 1e-6).all()


def test_sizes_of_the_decoder() -> None:
    net = make()
    assert net.stride == (4, 4)
    assert (len(net.encoder.trunk.blocks), len(net.decoder.trunk.blocks)) == (2, 3)
    latents = net.encoder(torch.randn(1, 3, 8, 12))
    assert latents.shape == (1, 16, 2, 3)
    block = net.decoder.trunk.blocks[0]
    assert block.attention.qkv.weight.shape == (3 * 3 * 8, 8)
    assert block.mlp[0].weight.shape == (20, 8)
    assert net.decoder(torch.randn(1, 8, 2, 3)).shape == (1, 3, 8, 12)


def test_the_decoder_is_as_the_encoder_where_nothing_else_is_said() -> None:
    ours = AutoencoderVQViT(latent_channels=16, depth=2, heads=2, mlp_dim=24, dim_head=8)
    shapes = [
        {name: weight.shape for name, weight in part.trunk.named_parameters()}
        for part in (ours.encoder, ours.decoder)
    ]
    assert shapes[0] == shapes[1]
    assert ours.post_quant_conv.weight.shape == (16, 32, 1, 1)


def test_the_networks_of_the_paper() -> None:
    """The defaults are its setting 9: 32 x 32 tokens of 32 dimensions out of 256 x 256 pixels."""
    with torch.device("meta"):
        ours = AutoencoderVQViT(
            quantizer_args={"use_cosine_sim": True, "start": "kaiming"},
            pixel_mean=(0.0, 0.0, 0.0),
            pixel_std=(1.0, 1.0, 1.0),
        )
    block = 2 * 2 * 512 + 4 * 512 * 512 + 512 + 2 * 512 * 2048 + 2048 + 512
    trunk = 8 * block + 2 * 512
    patches = 8 * 8 * 3 * 512
    for part, bias in ((ours.encoder, 512), (ours.decoder, 3)):
        assert sum(p.numel() for p in part.parameters()) == trunk + patches + bias
    assert ours.quantize.embedding.weight.shape == (8192, 32)
    assert ours.stride == (8, 8) and ours.encoder.trunk.trained == 32


def test_positions_are_not_saved() -> None:
    kinds = {name.rsplit(".", 1)[-1] for name in make().encoder.state_dict()}
    assert kinds == {"weight", "bias"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_stay(dtype: torch.dtype) -> None:
    net = make()
    latents = net.encoder.to(dtype)(torch.randn(1, 3, 8, 8, dtype=dtype))
    assert latents.dtype == dtype
    assert net.decoder.to(dtype)(latents[:, :8]).dtype == dtype


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is at least 1; got 0"),
        ({"decoder_heads": -1}, "decoder_heads is at least 1; got -1"),
        ({"patch_size": 0}, "patch_size is at least 1; got 0"),
        ({"latent_channels": 6}, "latent_channels is a multiple of 4, for positions; got 6"),
        ({"decoder_channels": 6}, "decoder_channels is a multiple of 4, for positions; got 6"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**changes)
    assert str(error.value) == message
