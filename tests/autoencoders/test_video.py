from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS
from vqtok.autoencoders.loading import load_model
from vqtok.autoencoders.video import AutoencoderVQTimesformer
from vqtok.errors import CodesError, ConfigError, ImageError


def model(**changes: Any) -> AutoencoderVQTimesformer:
    """Stride (1, 2, 2), 64 codes of 4 dimensions, compared by direction."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
        "sample_size": 12,
        "sample_frames": 4,
        "num_vq_embeddings": 64,
        "vq_embed_dim": 4,
        "quantizer_args": {"use_cosine_sim": True, "start": "kaiming"},
    }
    return AutoencoderVQTimesformer(**{**settings, **changes}).eval()


@pytest.fixture
def pixels() -> Tensor:
    """(2, 3, 4, 8, 12) uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 4, 8, 12), generator=generator, dtype=torch.uint8)


@pytest.fixture
def signed(pixels: Tensor) -> Tensor:
    """The same pixels, floats in [-1, 1]."""
    return (pixels.float() - 127.5) * (1 / 127.5)


def test_its_place_and_shape() -> None:
    assert AUTOENCODERS["timesformer"] is AutoencoderVQTimesformer
    ours = model(patch_size=4, sample_size=16)
    assert ours.stride == (1, 4, 4)
    assert ours.spatial_compression_ratio == 4 and ours.temporal_compression_ratio == 1
    assert ours.last_layer is ours.decoder.to_patch.weight


def test_the_networks_of_the_paper() -> None:
    """The defaults are those for BAIR: 16 x 64 x 64 pixels, 16 x 32 x 32 codes of 32 dimensions."""
    with torch.device("meta"):
        ours = AutoencoderVQTimesformer(quantizer_args={"start": "kaiming"})
    assert len(ours.encoder.trunk.blocks) == len(ours.decoder.trunk.blocks) == 8
    block = ours.encoder.trunk.blocks[0]
    assert block.spatial_attention.heads == 4 and block.mlp[0].weight.shape == (768, 256)
    with torch.no_grad():
        latents = ours.encode(torch.zeros(1, 3, 16, 64, 64, device="meta")).latents
    assert latents.shape == (1, 32, 16, 32, 32)
    assert ours.quantize.embedding.weight.shape == (1024, 32)


@torch.no_grad()
def test_clips_to_codes_and_back(pixels: Tensor, signed: Tensor) -> None:
    ours = model()
    latents = ours.encode(signed).latents
    assert latents.shape == (2, 4, 4, 4, 6)
    codes = ours.encode_codes(pixels)
    assert codes.shape == (2, 4, 4, 6) and codes.dtype == torch.int64
    assert len(codes.unique()) > 5
    assert torch.equal(codes, ours.encode_codes(signed))
    assert torch.equal(codes, ours.quantize.encode(latents))
    out = ours(signed)
    assert torch.equal(out.latents, latents) and torch.equal(out.quantized.codes, codes)
    assert torch.equal(out.sample, ours.decode(latents).sample)
    assert torch.equal(out.sample.clamp(-1, 1), ours.decode_codes(codes))
    assert out.sample.shape == signed.shape


@torch.no_grad()
def test_codes_are_compared_by_direction(signed: Tensor) -> None:
    ours = model()
    latents = ours.encode(signed).latents
    assert torch.equal(ours.quantize.encode(latents * 3), ours.encode_codes(signed))
    assert torch.allclose(ours(signed).quantized.z.norm(dim=1), torch.ones(2, 4, 4, 6))


@pytest.mark.parametrize("size", [(1, 2, 2), (7, 8, 20), (4, 16, 12)])
def test_any_length_and_size(size: tuple[int, int, int]) -> None:
    ours = model()
    clip = torch.zeros(1, 3, *size, dtype=torch.uint8)
    codes = ours.encode_codes(clip)
    assert codes.shape == (1, size[0], size[1] // 2, size[2] // 2)
    assert ours.decode_codes(codes).shape == clip.shape


def test_a_training_step(signed: Tensor) -> None:
    ours = model().train()
    before = {name: value.clone() for name, value in ours.quantize.state_dict().items()}
    out = ours(signed)
    ((out.sample - signed).square().mean() + out.commit_loss).backward()
    for name, weight in ours.named_parameters():
        if not name.startswith("quantize."):
            assert weight.grad is not None and weight.grad.isfinite().all(), name
            assert weight.grad.abs().sum() > 0, name
    after = ours.quantize.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours.quantize.step(out.quantized.sums, torch.Generator().manual_seed(0))
    assert not torch.equal(before["embedding.weight"], ours.quantize.embedding.weight)


def test_checkpointing_recomputes_the_same(signed: Tensor) -> None:
    grads = []
    for enable in (False, True):
        ours = model().train()
        calls: list[int] = []
        for block in (*ours.encoder.trunk.blocks, *ours.decoder.trunk.blocks):
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if enable:
            ours.enable_gradient_checkpointing()
        ours(signed).sample.square().mean().backward()
        assert len(calls) == (8 if enable else 4)  # each of 4 blocks again in the backward pass
        grads.append([w.grad for w in ours.parameters() if w.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@torch.no_grad()
def test_slices_and_tiles(signed: Tensor) -> None:
    ours = model()
    whole = ours(signed).sample
    ours.enable_slicing()
    assert torch.allclose(ours(signed).sample, whole, atol=1e-5)
    ours.enable_tiling()
    assert torch.allclose(ours(signed).sample, whole, atol=1e-5)  # a clip of the size of a tile
    seen = []
    ours.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    large = torch.zeros(1, 3, 5, 40, 24, dtype=torch.uint8)
    codes = ours.encode_codes(large)
    assert codes.shape == (1, 5, 20, 12)
    assert len(seen) > 1 and all(shape[2] == 5 for shape in seen)
    assert ours.decode_codes(codes).shape == large.shape


def test_saved_and_loaded(tmp_path: Path, pixels: Tensor, diffusers_log: list[str]) -> None:
    ours = model(pixel_mean=(0.4, 0.5, 0.6))
    ours.save_pretrained(tmp_path)
    again = AutoencoderVQTimesformer.from_pretrained(tmp_path)
    assert diffusers_log == []
    assert again.to_json_string() == ours.to_json_string()
    codes = ours.encode_codes(pixels)
    for other in (again, load_model(tmp_path)):
        assert type(other) is AutoencoderVQTimesformer and not other.training
        assert torch.equal(other.encode_codes(pixels), codes)
        assert torch.equal(other.decode_codes(codes), ours.decode_codes(codes))


def test_half_precision(tmp_path: Path, signed: Tensor) -> None:
    model().save_pretrained(tmp_path)
    half = AutoencoderVQTimesformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.encoder.from_patch.weight.dtype == torch.bfloat16
    assert half.quantize.embedding.weight.dtype == torch.float32
    with torch.no_grad():
        assert half(signed.bfloat16()).sample.dtype == torch.bfloat16


# --- what cannot be -------------------------------------------------------------------------------


def message(kind: type[Exception], call: Any, *args: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args)
    return str(error.value)


def test_there_is_no_such_class_in_diffusers() -> None:
    assert not any("Timesformer" in name for name in dir(diffusers))
    assert message(ConfigError, model().to_diffusers) == (
        "diffusers has no class for a model of clips with a codebook; save_pretrained writes a "
        "folder that AutoencoderVQTimesformer.from_pretrained reads"
    )


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (torch.zeros(3, 4, 8, 8), "pixels have the shape (B, 3, T, H, W); got (3, 4, 8, 8)"),
        (
            torch.zeros(1, 3, 4, 8, 9),
            "the sides of a clip are multiples of 1 x 2 x 2; got 4 x 8 x 9 (vqtok.preprocess crops "
            "or pads to fit)",
        ),
        (
            torch.zeros(1, 3, 0, 8, 8),
            "the sides of a clip are multiples of 1 x 2 x 2; got 0 x 8 x 8 (vqtok.preprocess crops "
            "or pads to fit)",
        ),
    ],
)
def test_clips_that_cannot_be(clip: Tensor, expected: str) -> None:
    assert message(ImageError, model().encode_codes, clip) == expected


def test_codes_that_cannot_be() -> None:
    assert message(CodesError, model().decode_codes, torch.zeros(1, 4, 4, dtype=torch.int64)) == (
        "codes of this model have the shape (B, t, h, w), with at least one token; got (1, 4, 4)"
    )


def test_settings_that_cannot_be() -> None:
    assert message(ConfigError, lambda: model(heads=3)) == (
        "latent_channels is a multiple of 4, for positions, and of heads=3; got 16"
    )
