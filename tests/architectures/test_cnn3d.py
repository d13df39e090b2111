from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.causal import CausalConv, FrameConv, Past, Residual
from vqtok.architectures.cnn3d import Down, FrameAttention, Up
from vqtok.errors import ConfigError

SETTINGS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 6,
    "block_out_channels": (8, 12, 16),
    "temporal_downsample": (True, True),
    "layers_per_block": 1,
    "decoder_layers_per_block": None,
    "mid_block_add_attention": True,
}
CLOSE = 1e-5


@pytest.fixture
def vidtok() -> Any:
    """diffusers' blocks, which its older versions do not have."""
    return pytest.importorskip("diffusers.models.autoencoders.autoencoder_vidtok")


def network(**changes: Any) -> Architecture:
    """Stride (4, 4, 4), with norms that are not those of the start."""
    torch.manual_seed(0)
    net = ARCHITECTURES["cnn3d"](**{**SETTINGS, **changes})
    for module in (*net.encoder.modules(), *net.decoder.modules()):
        if isinstance(module, nn.LayerNorm):
            randomize(module)
    return net


def randomize(module: nn.Module) -> None:
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.5)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- the same as AutoencoderVidTok's ----------------------------------------------------------


def load(ours: nn.Module, theirs: nn.Module) -> None:
    """Their weights, at random, into ours; each of them is used."""
    randomize(theirs)
    given = {
        name.removeprefix("conv.").replace(".conv.", ".").replace(".norm.", "."): weight
        for name, weight in theirs.state_dict().items()
    }
    own = ours.state_dict()
    assert own.keys() == given.keys()
    ours.load_state_dict({name: given[name].view_as(own[name]) for name in own})


def over_frames(module: Any, x: Tensor, *args: Any) -> Tensor:
    out = module(rearrange(x, "b c t h w -> (b t) c h w"), *args)
    return rearrange(out, "(b t) c h w -> b c t h w", b=len(x))


def over_places(module: Any, x: Tensor, *args: Any) -> Tensor:
    b, _, _, h, w = x.shape
    out = module(rearrange(x, "b c t h w -> (b h w) c t"), *args)
    return rearrange(out, "(b h w) c t -> b c t h w", b=b, h=h, w=w)


@torch.no_grad()
def test_a_convolution_over_time_is_that_of_vidtok(vidtok: Any) -> None:
    ours, theirs = CausalConv(8, 10), vidtok.VidTokCausalConv1d(8, 10, 3)
    load(ours, theirs)
    x = noise(2, 8, 7, 3, 5)
    assert (ours(x) - over_places(theirs, x)).abs().max() < CLOSE


@torch.no_grad()
def test_a_strided_one_is_that_of_vidtok(vidtok: Any) -> None:
    """Theirs takes an even number of frames: the first one is there twice."""
    ours = CausalConv(8, 10, stride=2)
    theirs = vidtok.VidTokCausalConv3d(8, 10, (3, 1, 1), stride=(2, 1, 1))
    load(ours, theirs)
    x = noise(2, 8, 7, 3, 5)
    expected = theirs(torch.cat([x[:, :, :1], x], 2))
    assert ours(x).shape == expected.shape == (2, 10, 4, 3, 5)
    assert (ours(x) - expected).abs().max() < CLOSE


@pytest.mark.parametrize("kind", ["1d", "2d"])
@torch.no_grad()
def test_a_residual_block_is_that_of_vidtok(kind: str, vidtok: Any) -> None:
    conv = (lambda: CausalConv(8, 8)) if kind == "1d" else lambda: FrameConv(8, 8, 3, padding=1)
    ours = Residual(8, conv)
    theirs = vidtok.VidTokResnetBlock(8, temb_channels=0, btype=kind)
    load(ours, theirs)
    x = noise(2, 8, 5, 6, 4)
    expected = (over_places if kind == "1d" else over_frames)(theirs, x, None)
    assert expected.std() > 0.5
    assert (ours(x) - expected).abs().max() < CLOSE * expected.abs().max()


@torch.no_grad()
def test_sides_are_halved_and_doubled_as_by_vidtok(vidtok: Any) -> None:
    x = noise(2, 8, 3, 6, 4)
    down, up = Down(8, 8, False), Up(8, 8, False)
    for ours, theirs in (
        (down, vidtok.VidTokDownsample2D(8)),
        (up, vidtok.VidTokUpsample2D(8)),
    ):
        randomize(theirs)
        ours.space.load_state_dict(theirs.conv.state_dict())
        expected = over_frames(theirs, x)
        assert (ours(x) - expected).abs().max() < CLOSE * expected.abs().max()


@torch.no_grad()
def test_attention_is_that_of_vidtok(vidtok: Any) -> None:
    ours, theirs = FrameAttention(8), vidtok.VidTokAttnBlock(8)
    randomize(theirs)
    weights = theirs.state_dict()
    attention = ours.attention
    for name in ("weight", "bias"):
        parts = [
            weights[f"{part}.conv.{name}"].flatten(1 if name == "weight" else 0) for part in "qkv"
        ]
        getattr(attention.qkv, name).copy_(torch.cat(parts))
        out = weights[f"proj_out.conv.{name}"]
        getattr(attention.out, name).copy_(out.view_as(getattr(attention.out, name)))
        getattr(ours.norm, name).copy_(weights[f"norm.norm.{name}"])
    x = noise(2, 8, 3, 6, 4)
    expected = theirs(x)
    assert (expected - x).std() > 0.1
    assert (ours(x) - expected).abs().max() < CLOSE * expected.abs().max()


# --- shapes and time --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("halves", "stride"),
    [((True, True), (4, 4, 4)), ((False, True), (2, 4, 4)), ((False, False), (1, 4, 4))],
)
@pytest.mark.parametrize("tokens", [1, 2, 4])
@torch.no_grad()
def test_shapes(halves: tuple[bool, bool], stride: tuple[int, ...], tokens: int) -> None:
    net = network(temporal_downsample=halves)
    assert net.stride == stride
    clip = noise(2, 3, 1 + (tokens - 1) * stride[0], 8, 12)
    latents = net.encoder(clip)
    assert latents.shape == (2, 6, tokens, 2, 3)
    assert net.decoder(latents).shape == clip.shape


def test_one_resolution() -> None:
    net = network(block_out_channels=(8,), temporal_downsample=())
    assert net.stride == (1, 1, 1)
    assert net.decoder(net.encoder(noise(1, 3, 2, 3, 5))).shape == (1, 3, 2, 3, 5)


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(inner, kind) for inner in module.modules())


def test_layers_at_each_resolution() -> None:
    net = network(layers_per_block=(0, 1, 2), decoder_layers_per_block=[1, 0, 3])
    # A layer is one over space and one over time, and the middle has two.
    assert count(net.encoder, Residual) == 2 * (0 + 1 + 2 + 2)
    assert count(net.decoder, Residual) == 2 * (1 + 0 + 3 + 2)
    widths = [
        block.norm1.normalized_shape[0]
        for block in net.decoder.blocks
        if isinstance(block, Residual)
    ]
    assert widths == [16] * 10 + [8] * 2
    assert count(net.encoder, FrameAttention) == count(net.decoder, FrameAttention) == 1
    plain = network(mid_block_add_attention=False)
    assert count(plain.encoder, FrameAttention) == count(plain.decoder, FrameAttention) == 0


@pytest.mark.parametrize("frame", [1, 4, 5, 8])
@torch.no_grad()
def test_no_token_sees_a_later_frame(frame: int) -> None:
    net = network()
    clip = noise(1, 3, 9, 8, 8)
    other = clip.clone()
    other[:, :, frame:] = noise(1, 3, 9 - frame, 8, 8, seed=1)
    before, after = net.encoder(clip), net.encoder(other)
    first = -(-frame // 4)  # of the tokens that see it
    assert torch.equal(before[:, :, :first], after[:, :, :first])
    assert (before[:, :, first] - after[:, :, first]).abs().max() > 1e-3


@pytest.mark.parametrize("token", [0, 1, 2])
@torch.no_grad()
def test_no_frame_sees_a_later_token(token: int) -> None:
    net = network()
    latents = noise(1, 6, 3, 2, 2)
    other = latents.clone()
    other[:, :, token:] = noise(1, 6, 3 - token, 2, 2, seed=1)
    before, after = net.decoder(latents), net.decoder(other)
    first = 1 + (token - 1) * 4 if token else 0
    assert torch.equal(before[:, :, :first], after[:, :, :first])
    moved = (before[:, :, first:] - after[:, :, first:]).abs().amax((0, 1, 3, 4))
    assert moved.min() > 1e-3


@torch.no_grad()
def test_each_later_token_sees_all_its_frames_and_some_before() -> None:
    net = network()
    clip = noise(1, 3, 9, 8, 8).requires_grad_()
    with torch.enable_grad():
        net.encoder(clip)[:, :, 2].sum().backward()
    assert clip.grad is not None
    seen = clip.grad.abs().amax((0, 1, 3, 4))
    assert seen.min() > 0


def test_residuals_are_slight_at_the_start() -> None:
    """A tenth of what they would be with weights that keep the variance, beside 1 passing by."""
    torch.manual_seed(0)
    net = ARCHITECTURES["cnn3d"](**{**SETTINGS, "block_out_channels": (64, 64, 64)})
    blocks = [m for n in (net.encoder, net.decoder) for m in n.modules() if isinstance(m, Residual)]
    x = noise(1, 64, 3, 8, 8)
    for block in blocks:
        with torch.no_grad():
            share = (block(x) - x).std().item()
        assert 0.03 < share < 0.12


def test_it_learns_from_the_first_step_on() -> None:
    """With torch's own start it stays for long at what it makes of grey: the mean of `x.abs()`."""
    torch.manual_seed(0)
    deep = {"block_out_channels": (16, 24, 32, 48), "temporal_downsample": (False, True, True)}
    net = ARCHITECTURES["cnn3d"](**{**SETTINGS, **deep})
    x = nn.functional.interpolate(noise(4, 3, 2, 3, 3), (5, 24, 24), mode="trilinear")
    adam = torch.optim.Adam([*net.encoder.parameters(), *net.decoder.parameters()], lr=2e-3)
    for _ in range(25):
        adam.zero_grad()
        loss = (net.decoder(net.encoder(x)) - x).abs().mean()
        loss.backward()
        adam.step()
    assert loss < 0.7 * x.abs().mean()


# --- in pieces --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1, 4, 4, 4], [5, 8], [1, 12], [9, 4]])
@torch.no_grad()
def test_pieces_are_the_whole(sizes: list[int]) -> None:
    net = network()
    encoder, decoder = net.encoder.double(), net.decoder.double()
    clip = noise(2, 3, 13, 8, 12).double()
    past = Past()
    latents = torch.cat([encoder(part, past) for part in clip.split(sizes, 2)], 2)
    whole = encoder(clip)
    assert torch.allclose(latents, whole, rtol=0, atol=1e-12)
    past, tokens = (
        Past(),
        [1 + (size - 1) // 4 if n == 0 else size // 4 for n, size in enumerate(sizes)],
    )
    pixels = torch.cat([decoder(part, past) for part in whole.split(tokens, 2)], 2)
    assert torch.allclose(pixels, decoder(whole), rtol=0, atol=1e-12)


@torch.no_grad()
def test_what_is_kept_of_the_past_is_a_few_frames() -> None:
    net = network()
    past = Past()
    for part in noise(1, 3, 41, 8, 8).split([1, 40], 2):
        net.encoder(part, past)
        assert len(past.frames) == count(net.encoder, CausalConv)
        for layer, frames in past.frames.items():
            assert isinstance(layer, CausalConv)
            assert frames.shape[1] == layer.kept in (1, 2)
            assert frames.untyped_storage().nbytes() == frames.nbytes


@torch.no_grad()
def test_modules_keep_nothing_of_a_clip() -> None:
    net = network()
    before = [{**vars(module)} for module in net.encoder.modules()]
    net.encoder(noise(1, 3, 5, 8, 8), Past())
    assert [{**vars(module)} for module in net.encoder.modules()] == before


@torch.no_grad()
def test_memory_has_the_channels_last() -> None:
    """Else each convolution would copy its planes."""
    net = network()
    wrong: list[str] = []

    def look(module: nn.Module, args: Any, out: Tensor) -> None:
        if not out.is_contiguous(memory_format=torch.channels_last_3d):
            wrong.append(type(module).__name__)

    for block in (*net.encoder.blocks, *net.decoder.blocks):
        block.register_forward_hook(look)
    for frames in (1, 9):
        net.decoder(net.encoder(noise(1, 3, frames, 8, 12)))
    # The first frame goes, and that leaves a gap before the next clip's.
    assert set(wrong) <= {"Up"}


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"block_out_channels": ()},
            "block_out_channels has a width for each resolution, at least 1; got []",
        ),
        (
            {"block_out_channels": (8, 0, 8)},
            "block_out_channels has a width for each resolution, at least 1; got [8, 0, 8]",
        ),
        (
            {"temporal_downsample": (True,)},
            "between the 3 resolutions of block_out_channels there are 2 halvings, and "
            "temporal_downsample says of each whether it halves time; got [True]",
        ),
        (
            {"layers_per_block": -1},
            "layers_per_block is a number of at least 0, or one for each of 3 resolutions; got -1",
        ),
        (
            {"layers_per_block": (1, 2)},
            "layers_per_block is a number of at least 0, or one for each of 3 resolutions; got "
            "[1, 2]",
        ),
        (
            {"decoder_layers_per_block": (1, -2, 1)},
            "decoder_layers_per_block is a number of at least 0, or one for each of 3 "
            "resolutions; got [1, -2, 1]",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        network(**changes)
    assert str(error.value) == message
