from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vqtok.architectures import Architecture
from vqtok.architectures.titok import Block, Proxy, titok
from vqtok.autoencoders import AutoencoderVQTiTok
from vqtok.errors import ConfigError, InputError

PROXY = Proxy(20, 6, (8, 8, 16), 1, 4)


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": 16,
        "num_latent_tokens": 6,
        "patch_size": 8,
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "decoder_patch_size": 4,
        "decoder_channels": 8,
        "decoder_depth": 1,
        "decoder_heads": 4,
        "proxy": PROXY,
    }
    return titok(**{**settings, **changes})


@torch.no_grad()
def test_a_block_is_a_layer_of_torch() -> None:
    torch.manual_seed(0)
    ours = Block(16, 2)
    theirs = nn.TransformerEncoderLayer(
        16, 2, 64, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    for own, other in (
        (ours.attention_norm, theirs.norm1),
        (ours.attention.out, theirs.self_attn.out_proj),
        (ours.mlp_norm, theirs.norm2),
        (ours.mlp[0], theirs.linear1),
        (ours.mlp[2], theirs.linear2),
    ):
        for weight in own.parameters():
            nn.init.normal_(weight, std=0.5)
        other.load_state_dict(own.state_dict())
    nn.init.normal_(ours.attention.qkv.bias)
    theirs.self_attn.in_proj_weight.copy_(ours.attention.qkv.weight)
    theirs.self_attn.in_proj_bias.copy_(ours.attention.qkv.bias)
    x = torch.randn(2, 7, 16)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("proxy", [PROXY, None])
def test_sizes(proxy: Proxy | None) -> None:
    net = make(proxy=proxy)
    assert net.stride == (16, 16)
    assert net.encoder(torch.randn(2, 3, 16, 16)).shape == (2, 16, 6)
    assert net.decoder(torch.randn(2, 8, 6)).shape == (2, 3, 16, 16)


@torch.no_grad()
def test_tokens_are_folded_in_two_stages() -> None:
    """Read as if they had been transposed, or really transposed."""
    folded, straight = make(), make(proxy=None)
    x = torch.randn(2, 3, 16, 16)
    straight.encoder.load_state_dict(folded.encoder.state_dict())
    tokens = straight.encoder(x).movedim(1, 2)
    assert torch.equal(folded.encoder(x).flatten(1), tokens.flatten(1))


@torch.no_grad()
def test_latents_see_all_patches_and_pixels_all_latents() -> None:
    net = make()
    x = torch.randn(1, 3, 16, 16)
    before = net.encoder(x)
    x[..., :8, :8] += 1
    assert ((net.encoder(x) - before).abs().amax(1) > 1e-7).all()
    z = torch.randn(1, 8, 6)
    before = net.decoder(z)
    z[..., 2] += torch.randn(8)  # not of one size, which the norm takes out
    assert ((net.decoder(z) - before).abs().amax((1, 2)) > 1e-7).all()


@torch.no_grad()
def test_places_and_tokens_are_told_apart() -> None:
    """Of transformers that do nothing, positions alone are left."""
    net = make()
    for block in net.encoder.trunk.blocks:
        nn.init.zeros_(block.attention.out.weight)
        nn.init.zeros_(block.mlp[2].weight)
    net.encoder.trunk.norm_in = net.encoder.trunk.norm_out = nn.Identity()
    patches, latents = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    out = net.encoder.trunk(patches, latents)
    assert torch.allclose(out[0], patches + net.encoder.trunk.positions[1:])
    assert torch.allclose(out[1], latents + net.encoder.trunk.latent_positions)


@torch.no_grad()
def test_patches_come_back_where_they_were() -> None:
    """Without a proxy: rows of patches, each of rows of pixels."""
    head = make(proxy=None).decoder.head
    nn.init.zeros_(head.to_patch.weight)
    head.to_patch.weight[0] = 1  # the first row and column, the first channel
    nn.init.dirac_(head.conv_out.weight)
    features = torch.arange(12.0).view(1, 1, 3, 4).expand(1, 8, 3, 4) / 8
    pixels = head(features)
    assert torch.allclose(pixels[0, 0, ::4, ::4], torch.arange(12.0).view(3, 4))
    assert not pixels[0, 1:].any() and not pixels[0, 0, 1::4].any()


@torch.no_grad()
def test_a_mean_of_proxy_codes() -> None:
    head = make().decoder.head
    features = torch.randn(2, 8, 4, 4)
    seen: list[torch.Tensor] = []
    head.to_pixels.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(features)
    share = head.to_codes(features).softmax(1)
    table = head.mean.weight[..., 0, 0].T
    assert torch.allclose(seen[0], torch.einsum("bkhw,kd->bdhw", share, table), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"latent_channels": 1024, "depth": 24, "heads": 16, "num_latent_tokens": 32}, 641_054_735),
        ({}, 204_814_095),
        ({"latent_channels": 512, "depth": 8, "heads": 8, "num_latent_tokens": 128}, 83_674_639),
    ],
)
def test_the_published_networks(settings: dict[str, Any], count: int) -> None:
    """L-32, B-64 and S-128, with the reference's number of weights."""
    with torch.device("meta"):
        ours = AutoencoderVQTiTok(**settings, two_stage=True, quantizer_args={"start": "kaiming"})
    assert sum(p.numel() for p in ours.parameters()) == count
    assert ours.quantize.embedding.weight.shape == (4096, 12)
    assert ours.grid_of((256, 256)) == (ours.config.num_latent_tokens,)


def test_it_exports() -> None:
    net = make()
    x = torch.randn(2, 3, 16, 16)
    program = torch.export.export(
        net.encoder.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("b", max=64)},)
    )
    more = torch.randn(3, 3, 16, 16)
    assert torch.allclose(program.module()(more), net.encoder(more), atol=1e-5)


def test_another_size_is_refused() -> None:
    net = make()
    for call, patches, tokens in (
        (lambda: net.encoder(torch.randn(1, 3, 8, 8)), 1, 6),
        (lambda: net.decoder(torch.randn(1, 8, 1)), 16, 1),
    ):
        with pytest.raises(InputError) as error:
            call()
        count = 4 if tokens == 6 else 16
        assert str(error.value) == (
            f"this model takes pictures of {count} patches and 6 tokens; got {patches} patches and "
            f"{tokens} tokens"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is at least 1; got 0"),
        ({"sample_size": 20}, "sample_size is a multiple of patch_size=8; got 20"),
        ({"decoder_patch_size": 5}, "sample_size is a multiple of decoder_patch_size=5; got 16"),
        ({"heads": 3}, "latent_channels is a multiple of heads=3; got 16"),
        ({"decoder_heads": 3}, "decoder_channels is a multiple of decoder_heads=3; got 8"),
        (
            {"decoder_patch_size": 8},
            "with 3 block_out_channels a proxy code is 4 pixels wide, and so is a patch of the "
            "decoder; got decoder_patch_size=8",
        ),
        (
            {"proxy": Proxy(20, 6, (8, 10, 16), 1, 4)},
            "each of block_out_channels is a multiple of norm_num_groups=4; got 10",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**changes)
    assert str(error.value) == message
