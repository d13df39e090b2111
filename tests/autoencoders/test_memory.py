"""Whatever diffusers and accelerate do to save memory, ids and pixels are the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from autoencoders import toys
from autoencoders.toys import TOYS, toy
from diffusers.models.attention_processor import AttnProcessor
from packaging.version import Version
from tiny import model
from torch import Tensor, nn

from vqtok import AutoencoderVQ
from vqtok.autoencoders.tiling import Tiling

CPU = torch.device("cpu")


def sequential(ours: AutoencoderVQ) -> None:
    accelerate.cpu_offload(ours, execution_device=CPU)


def whole(ours: AutoencoderVQ) -> None:
    accelerate.cpu_offload_with_hook(ours, execution_device=CPU)


def groups(kind: str) -> Callable[[AutoencoderVQ], None]:
    def offload(ours: AutoencoderVQ) -> None:
        old = Version(diffusers.__version__) < Version("0.41")
        if old and not torch.accelerator.is_available():
            pytest.skip("diffusers before 0.41 offloads groups only where there is an accelerator")
        ours.enable_group_offload(
            onload_device=CPU,
            offload_device=CPU,
            offload_type=kind,
            num_blocks_per_group=1,
            use_stream=False,
        )

    return offload


def other_attention(ours: AutoencoderVQ) -> None:
    assert len(ours.attn_processors) == 2
    ours.set_attn_processor(AttnProcessor())


WAYS = {
    "sequential offload": sequential,
    "model offload": whole,
    "offload by blocks": groups("block_level"),
    "offload by leaves": groups("leaf_level"),
    "slicing": AutoencoderVQ.enable_slicing,
    "tiling, one tile": AutoencoderVQ.enable_tiling,
    "attention processor": other_attention,
    "fused attention": AutoencoderVQ.fuse_qkv_projections,
}


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_nothing_changes(way: str, pixels: Tensor, signed: Tensor) -> None:
    ours = model(mid_block_add_attention=True, sample_size=64)
    other = copy.deepcopy(ours)
    WAYS[way](other)
    codes = ours.encode_codes(pixels)
    latents = ours.encode(signed).latents
    # The ways that need a forward of the whole come last.
    assert torch.equal(other.encode_codes(pixels), codes)
    assert close(other.decode_codes(codes), ours.decode_codes(codes))
    assert close(other.encode(signed).latents, latents)
    assert close(other.decode(latents).sample, ours.decode(latents).sample)
    assert close(other(signed).sample, ours(signed).sample)


@pytest.mark.parametrize("way", [way for way in WAYS if "attention" not in way])
@pytest.mark.parametrize("name", [name for name in TOYS if name != "cnn"])
@torch.no_grad()
def test_nothing_changes_with_another_architecture(name: str, way: str) -> None:
    ours = toy(name)
    other = copy.deepcopy(ours)
    WAYS[way](other)
    x = toys.pixels(ours)
    codes = ours.encode_codes(x)
    assert torch.equal(other.encode_codes(x), codes)
    assert close(other.decode_codes(codes), ours.decode_codes(codes))
    assert close(other(toys.signed(x)).sample, ours(toys.signed(x)).sample)


@pytest.mark.parametrize("way", ["sequential offload", "offload by blocks", "offload by leaves"])
@torch.no_grad()
def test_nothing_changes_with_a_norm(way: str, pixels: Tensor) -> None:
    ours = model(pre_quant_norm="layer")
    other = copy.deepcopy(ours)
    WAYS[way](other)
    assert torch.equal(other.encode_codes(pixels), ours.encode_codes(pixels))


@pytest.mark.parametrize("name", [name for name in TOYS if name != "cnn"])
def test_layerwise_casting_of_another_architecture(name: str) -> None:
    ours = toy(name)
    codebook = ours.quantize.embedding.weight.clone()
    ours.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert torch.float8_e4m3fn in {weight.dtype for weight in ours.parameters()}
    assert torch.equal(ours.quantize.embedding.weight, codebook)
    x = toys.pixels(ours)
    assert ours.decode_codes(ours.encode_codes(x)).shape == x.shape


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


def test_layerwise_casting(signed: Tensor) -> None:
    ours = model()
    codebook = ours.quantize.embedding.weight.clone()
    ours.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert ours.quant_conv.weight.dtype == torch.float8_e4m3fn
    assert ours.dtype == torch.float32
    assert torch.equal(ours.quantize.embedding.weight, codebook)
    codes = ours.encode_codes(signed)
    assert ours.decode_codes(codes).shape == signed.shape
    with torch.no_grad():
        assert ours(signed).sample.dtype == torch.float32


def gradients(ours: AutoencoderVQ, signed: Tensor) -> dict[str, Tensor]:
    ours.zero_grad()
    out = ours(signed)
    (out.sample.square().mean() + out.commit_loss).backward()
    return {name: weight.grad for name, weight in ours.named_parameters() if weight.requires_grad}


def test_gradient_checkpointing(signed: Tensor) -> None:
    ours = model(mid_block_add_attention=True).train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    plain = {name: grad.clone() for name, grad in gradients(ours, signed).items()}
    ours.enable_gradient_checkpointing()
    assert ours.is_gradient_checkpointing
    again = gradients(ours, signed)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def test_slices_are_seen_one_by_one(signed: Tensor) -> None:
    ours = model()
    seen: list[int] = []
    ours.encoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    ours.decoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    ours.enable_slicing()
    ours(signed)
    assert seen == [1, 1, 1, 1]
    ours.disable_slicing()
    ours(signed)
    assert seen[4:] == [2, 2]


# --- tiles ------------------------------------------------------------------------------------


def network() -> tuple[nn.Module, nn.Module]:
    """Stride 4 and back, with a view of a few tokens and no norms: tiles need not show."""
    torch.manual_seed(0)
    down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 4, 3, 2, 1)).double()
    up = nn.Sequential(
        nn.ConvTranspose2d(4, 8, 2, 2),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.ConvTranspose2d(8, 3, 2, 2),
    ).double()
    return down.eval(), up.eval()


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (36, 100), (4, 68), (132, 60)])
@torch.no_grad()
def test_tiles_of_a_local_network_do_not_show(size: tuple[int, int]) -> None:
    down, up = network()
    tiling = Tiling(32, 4)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    latents = down(x)
    assert torch.allclose(tiling.shrink(down, x), latents)
    assert torch.allclose(tiling.grow(up, latents), up(latents))


@pytest.mark.parametrize("length", range(1, 40))
def test_tiles_cover_the_grid_once(length: int) -> None:
    spans = list(Tiling(32, 4)._spans(length))
    kept = [place for s in spans for place in range(s.start, s.stop)[s.keep_start : s.keep_stop]]
    assert kept == list(range(length))
    sizes = [span.keep_stop - span.keep_start for span in spans]
    assert max(sizes) <= 8 and max(sizes) - min(sizes) <= 1
    assert all(0 <= span.start < span.stop <= length for span in spans)


@torch.no_grad()
def test_a_large_picture_is_never_seen_whole() -> None:
    ours = model(sample_size=32)
    ours.enable_tiling()
    seen: list[Any] = []
    ours.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[2:]))
    x = torch.rand(1, 3, 100, 68) * 2 - 1
    codes = ours.encode_codes(x)
    assert codes.shape == (1, 25, 17)
    assert max(max(shape) for shape in seen) <= 48 and len(seen) == 4 * 3
    assert ours.decode_codes(codes).shape == x.shape
    ours.disable_tiling()
    assert ours.encode_codes(x).shape == (1, 25, 17)
