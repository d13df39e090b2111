from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture, timesformer
from vqtok.errors import ConfigError

SETTINGS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 24,
    "patch_size": 2,
    "depth": 2,
    "heads": 3,
    "mlp_dim": 40,
    "sample_size": 12,
    "sample_frames": 5,
}


def network(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    return ARCHITECTURES["timesformer"](**{**SETTINGS, **changes})


def randomise(module: nn.Module) -> None:
    """Norms and biases that do something: at their starts they would hide a mix-up."""
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)


# --- against transformers -----------------------------------------------------------------------


def theirs(side: int, frames: int) -> Any:
    """A random `TimesformerModel` of the same size as `network`."""
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(
        image_size=side,
        num_frames=frames,
        patch_size=SETTINGS["patch_size"],
        hidden_size=SETTINGS["latent_channels"],
        num_hidden_layers=SETTINGS["depth"],
        num_attention_heads=SETTINGS["heads"],
        intermediate_size=SETTINGS["mlp_dim"],
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    made = TimesformerModel(config).eval()
    randomise(made)
    return made


def without_class_token(model: Any) -> None:
    """Takes the class token out of the spatial attention of each layer.

    It stands before the patches of each frame there, and nowhere else meets a patch. So nothing
    but its being looked at is lost, and all else is their code: each layer is handed the sequence
    with the class token and gives it back.
    """

    def drop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][:, 1:],)

    def put_back(module: nn.Module, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.pad(output[0], (0, 0, 1, 0)), *output[1:])

    for layer in model.encoder.layer:
        layer.attention.register_forward_pre_hook(drop)
        layer.attention.register_forward_hook(put_back)


def carry(layer: nn.Module, block: timesformer.Block) -> None:
    """The weights of a `TimesformerLayer` into a block; each of them is used."""
    names = {
        "temporal_layernorm": "temporal_norm",
        "temporal_attention.attention.qkv": "temporal_attention.qkv",
        "temporal_attention.output.dense": "temporal_attention.out",
        "temporal_dense": "temporal_dense",
        "layernorm_before": "spatial_norm",
        "attention.attention.qkv": "spatial_attention.qkv",
        "attention.output.dense": "spatial_attention.out",
        "layernorm_after": "mlp_norm",
        "intermediate.dense": "mlp.0",
        "output.dense": "mlp.2",
    }
    weights = {}
    for name, value in layer.state_dict().items():
        place, _, kind = name.rpartition(".")
        weights[f"{names[place]}.{kind}"] = value
    block.load_state_dict(weights)


@torch.no_grad()
def test_a_block_is_a_layer_of_timesformer() -> None:
    t, h, w = 5, 4, 6
    there = theirs(side=2 * w, frames=t)
    without_class_token(there)
    layer = there.encoder.layer[0]
    block = timesformer.Block(SETTINGS["latent_channels"], SETTINGS["heads"], SETTINGS["mlp_dim"])
    carry(layer, block)
    x = torch.randn(2, t, h, w, SETTINGS["latent_channels"])
    sequence = rearrange(x, "b t h w d -> b (h w t) d")  # their order, time last
    with_class = torch.cat([torch.randn(2, 1, sequence.shape[-1]), sequence], 1)
    expected = layer(with_class)[0][:, 1:]
    found = rearrange(block(x), "b t h w d -> b (h w t) d")
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected - sequence).abs().min(-1).values.min() > 0  # it does something to each token


@torch.no_grad()
def test_the_encoder_is_a_timesformer_model() -> None:
    """With our positions in the place of their learned ones."""
    frames, side = SETTINGS["sample_frames"], SETTINGS["sample_size"]
    encoder = network().encoder
    there = theirs(side, frames)
    without_class_token(there)
    for layer, block in zip(there.encoder.layer, encoder.trunk.blocks, strict=True):
        carry(layer, block)
    encoder.trunk.norm.load_state_dict(there.layernorm.state_dict())
    grid = torch.zeros(1, frames, side // 2, side // 2, SETTINGS["latent_channels"])
    table = timesformer.positions(grid, encoder.trunk.trained)
    time = table[:, 0, 0] - table[0, 0, 0]
    embeddings = there.embeddings
    embeddings.time_embeddings.copy_(time[None])
    embeddings.position_embeddings[0, 1:] = table[0].flatten(0, 1)
    projection = embeddings.patch_embeddings.projection
    encoder.from_patch.load_state_dict(
        {"weight": projection.weight.flatten(1), "bias": projection.bias}
    )
    clip = torch.rand(2, 3, frames, side, side) * 2 - 1
    hidden = there(rearrange(clip, "b c t h w -> b t c h w")).last_hidden_state[:, 1:]
    expected = rearrange(hidden, "b (h w t) d -> b d t h w", t=frames, h=side // 2)
    assert (encoder(clip) - expected).abs().max() <= 1e-5 * expected.abs().max()


# --- any clip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 2, 2), (5, 12, 12), (3, 8, 10), (9, 16, 4)])
@torch.no_grad()
def test_a_clip_of_any_length_and_size(size: tuple[int, int, int]) -> None:
    net = network(in_channels=1)
    latents = net.encoder(torch.randn(2, 1, *size))
    assert latents.shape == (2, 24, size[0], size[1] // 2, size[2] // 2)
    assert net.decoder(latents).shape == (2, 3, *size)
    assert net.stride == (1, 2, 2)


@torch.no_grad()
def test_patches_come_back_where_they_were() -> None:
    net = network(latent_channels=12, heads=1)
    nn.init.eye_(net.encoder.from_patch.weight)
    nn.init.eye_(net.decoder.to_patch.weight)
    net.encoder.trunk = net.decoder.trunk = nn.Identity()
    clip = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(net.decoder(net.encoder(clip)), clip)


def positions(t: int, h: int, w: int) -> Tensor:
    return timesformer.positions(torch.zeros(1, t, h, w, 24), (5, 6))


@given(t=st.integers(1, 12), h=st.integers(1, 12), w=st.integers(1, 12))
def test_positions(t: int, h: int, w: int) -> None:
    trained, found = positions(5, 6, 6), positions(t, h, w)
    assert found.shape == (t, h, w, 24)
    if t <= 5 and max(h, w) <= 6:
        assert torch.equal(found, trained[:t, :h, :w])
    flat = found.flatten(0, -2).double()
    apart = torch.cdist(flat, flat) + torch.eye(len(flat)) * 10
    assert apart.min() > 0.05 * timesformer.AMPLITUDE


@pytest.mark.parametrize("length", [6, 7, 12, 100])
def test_longer_clips_have_the_positions_of_training(length: int) -> None:
    """No index beyond those of training: their waves are those of fractions."""
    index = torch.arange(length) * 5 / length
    rate = 10_000 ** -(torch.arange(12) / 12)
    expected = torch.cat([torch.sin(index[:, None] * rate), torch.cos(index[:, None] * rate)], -1)
    found = positions(length, 1, 1)[:, 0, 0] / timesformer.AMPLITUDE
    place = found[0] - expected[0]  # that of the first row and column
    assert torch.allclose(found - place, expected, atol=1e-5)


@torch.no_grad()
def test_a_token_depends_on_its_position() -> None:
    """Attention alone would give a permuted clip permuted tokens."""
    net = network()
    clip = torch.randn(1, 3, 4, 6, 6)
    for axis in (2, 3, 4):
        there = net.encoder(clip.roll(2, axis)).roll(-2 if axis == 2 else -1, axis)
        assert not torch.allclose(there, net.encoder(clip), atol=1e-3)


def test_as_many_sequences_as_no_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    clip = torch.randn(2, 3, 4, 6, 6)
    whole = net.encoder(clip)
    monkeypatch.setattr(timesformer, "SEQUENCES", 5)
    assert torch.allclose(net.encoder(clip), whole, atol=1e-6)


def test_dtypes_stay() -> None:
    net = network()
    clip = torch.randn(1, 3, 2, 4, 4, dtype=torch.bfloat16)
    latents = net.encoder.bfloat16()(clip)
    assert latents.dtype == torch.bfloat16
    assert net.decoder.bfloat16()(latents).dtype == torch.bfloat16


# --- settings that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth": 0},
            "patch_size, depth, heads, mlp_dim, sample_size and sample_frames are at least 1; got "
            "2, 0, 3, 40, 12 and 5",
        ),
        (
            {"latent_channels": 30},
            "latent_channels is a multiple of 4, for positions, and of heads=3; got 30",
        ),
        (
            {"heads": 5},
            "latent_channels is a multiple of 4, for positions, and of heads=5; got 24",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        network(**changes)
    assert str(error.value) == message
