from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from autoencoders.toys import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqtok import fingerprint
from vqtok.autoencoders import AUTOENCODERS, AutoencoderVQCausal3D
from vqtok.errors import CodesError, ConfigError, ImageError
from vqtok.preprocess import Preprocess


def model(**changes: Any) -> AutoencoderVQCausal3D:
    """Stride (2, 4, 4); 64 codes of 4 dimensions."""
    made = toy("cnn3d", **changes)
    assert isinstance(made, AutoencoderVQCausal3D)
    return made


def clip(frames: int = 7, height: int = 16, width: int = 20, seed: int = 1) -> Tensor:
    """(2, 3, T, H, W) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, frames, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def signed(pixels: Tensor) -> Tensor:
    return (pixels.float() - 127.5) * (1 / 127.5)


OURS = model()


def test_its_place_and_shape() -> None:
    assert AUTOENCODERS["cnn3d"] is AutoencoderVQCausal3D
    assert OURS.stride == (2, 4, 4) and OURS.causal and OURS.is_video
    assert (OURS.spatial_compression_ratio, OURS.temporal_compression_ratio) == (4, 2)
    assert OURS.window is None
    assert OURS.last_layer is OURS.decoder.conv_out.weight


def test_the_defaults() -> None:
    """17 x 128 x 128 pixels to 5 x 16 x 16 codes."""
    with torch.device("meta"):
        ours = AutoencoderVQCausal3D(quantizer_args={"start": "kaiming"})
        with torch.no_grad():
            latents = ours.encode(torch.zeros(1, 3, 17, 128, 128)).latents
            assert latents.shape == (1, 8, 5, 16, 16)
            assert ours.decode(latents, force_not_quantize=True).sample.shape == (
                1,
                3,
                17,
                128,
                128,
            )


# --- time -----------------------------------------------------------------------------------------


def test_a_picture_is_a_clip_of_one_frame() -> None:
    x = clip()
    codes = OURS.encode_codes(x)
    alone = OURS.encode_codes(x[:, :, :1])
    assert alone.shape == (2, 1, 4, 5) and torch.equal(alone, codes[:, :1])
    assert torch.equal(OURS.decode_codes(alone), OURS.decode_codes(codes)[:, :, :1])


@settings(max_examples=30)
@given(tokens=st.integers(1, 6), first=st.integers(1, 6), seed=st.integers(0, 99))
def test_what_comes_later_changes_nothing(tokens: int, first: int, seed: int) -> None:
    """Bit for bit, whether it is other frames or none."""
    first = min(first, tokens)
    x = clip(2 * tokens - 1, 8, 8, seed)
    seen = 2 * first - 1
    other = torch.cat([x[:, :, :seen], 255 - x[:, :, seen:]], 2)
    with torch.no_grad():
        whole, changed, short = (
            OURS.encode(signed(one)).latents[:, :, :first] for one in (x, other, x[:, :, :seen])
        )
    assert torch.equal(whole, changed) and torch.equal(whole, short)
    codes = OURS.encode_codes(x)
    assert codes.shape[1] == tokens
    pixels, few = OURS.decode_codes(codes), OURS.decode_codes(codes[:, :first])
    assert torch.equal(pixels[:, :, :seen], few)


@torch.no_grad()
def test_with_gradients_a_clip_goes_through_as_one() -> None:
    x = signed(clip(9))
    pieces: list[int] = []
    hook = OURS.encoder.register_forward_pre_hook(lambda _, args: pieces.append(args[0].shape[2]))
    latents = OURS.encode(x).latents
    with torch.enable_grad():
        as_one = OURS.encode(x).latents
    hook.remove()
    assert pieces == [1, 2, 2, 2, 2, 9]
    assert as_one.requires_grad and (latents - as_one).abs().max() < 1e-5
    with torch.enable_grad():
        grown = OURS.decode(as_one).sample
    assert (OURS.decode(latents).sample - grown).abs().max() < 1e-4


@torch.no_grad()
def test_slices_and_tiles_change_nothing_that_they_need_not() -> None:
    ours = model()
    x = clip()
    codes, pixels = ours.encode_codes(x), ours.decode_codes(ours.encode_codes(x))
    ours.enable_slicing()
    assert torch.equal(ours.encode_codes(x), codes)
    assert torch.allclose(ours.decode_codes(codes), pixels, atol=1e-5)
    ours.enable_tiling()  # of the size of a tile
    assert torch.equal(ours.encode_codes(x), codes)
    seen: list[torch.Size] = []
    ours.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    large = clip(5, 80, 40)
    assert ours.encode_codes(large).shape == (2, 3, 20, 10)
    assert len(seen) == 2 * 3 * 2 * 3  # slices, tiles down and across, pieces
    assert ours.decode_codes(ours.encode_codes(large)).shape == large.shape


# --- folders and pipelines ------------------------------------------------------------------------


RATIOS = {"temporal_compression_ratio": 2, "spatial_compression_ratio": 4}


def test_what_pipelines_read(tmp_path: Path, diffusers_log: list[str]) -> None:
    assert {name: OURS.config[name] for name in RATIOS} == RATIOS
    assert 2 ** (len(OURS.config.block_out_channels) - 1) == OURS.spatial_compression_ratio
    OURS.save_pretrained(tmp_path)
    again = AutoencoderVQCausal3D.from_pretrained(tmp_path)
    assert again.config.temporal_compression_ratio == 2
    other = AutoencoderVQCausal3D.from_config(again.config, temporal_downsample=(False, False))
    assert other.config.temporal_compression_ratio == 1
    assert diffusers_log == []


# --- what cannot be -------------------------------------------------------------------------------


def message(kind: type[Exception], call: Any, *args: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args)
    return str(error.value)


@pytest.mark.parametrize("frames", [2, 4])
def test_clips_that_cannot_be(frames: int) -> None:
    rule = (
        "the sides of a clip are 1 + a multiple of 2 frames, and multiples of 4 x 4; got "
        f"{frames} x 16 x 20"
    )
    x = clip(frames)
    assert message(ImageError, OURS.encode_codes, x).startswith(rule)
    assert message(ImageError, OURS.encode, signed(x)) == rule


def test_codes_that_cannot_be() -> None:
    assert message(CodesError, OURS.decode_codes, torch.zeros(1, 4, 4, dtype=torch.int64)) == (
        "codes of this model have the shape (B, t, h, w), with at least one token; got (1, 4, 4)"
    )


def test_there_is_no_such_class_in_diffusers() -> None:
    assert message(ConfigError, OURS.to_diffusers) == (
        "diffusers has no class for this AutoencoderVQCausal3D; save_pretrained writes a folder "
        "that vqtok and transformers read"
    )


@pytest.mark.parametrize(
    ("layers", "other"),
    [
        ({"layers_per_block": 1}, {"layers_per_block": (1, 1)}),
        ({"decoder_layers_per_block": None}, {"decoder_layers_per_block": (0, 1)}),
        ({"decoder_layers_per_block": 1}, {"decoder_layers_per_block": (1, 1)}),
        ({"temporal_downsample": (True,)}, {"temporal_downsample": (1,)}),
    ],
)
def test_one_network_has_one_print(
    layers: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    rule = Preprocess(policy="center", size=16, stride=2)
    base = {
        "block_out_channels": (8, 8),
        "temporal_downsample": (True,),
        "layers_per_block": (0, 1),
    }
    one, two = (toy("cnn3d", **{**base, **how}) for how in (layers, other))
    found = fingerprint.of_model(one, rule)
    assert found == fingerprint.of_model(two, rule)
    two.save_pretrained(tmp_path)
    assert found == fingerprint.of_folder(tmp_path, rule)


def test_its_print_is_pinned() -> None:
    """Settings are named as ever: token sets are kept for years."""
    kind = AUTOENCODERS["cnn3d"]
    whole = fingerprint._defaults(kind) | {
        "layers_per_block": (1, 0, 1, 1),
        "decoder_layers_per_block": (2, 0, 1, 1),
    }
    named = {"architecture": "cnn3d", "layers_per_block": [1, 0, 1, 1]}
    assert fingerprint._settings(kind, whole, kind.ENCODER_SETTINGS) == named
    decoder = named | {"decoder_layers_per_block": [2, 0, 1, 1]}
    assert fingerprint._settings(kind, whole, kind.DECODER_SETTINGS) == decoder
