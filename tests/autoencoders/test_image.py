from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import model
from torch import Tensor

from vqtok import AutoencoderVQ
from vqtok.errors import CodesError, ConfigError, ImageError, InputError

CLIP = {
    "pixel_mean": (0.48145466, 0.4578275, 0.40821073),
    "pixel_std": (0.26862954, 0.26130258, 0.27577711),
}
UNIT = {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}


def test_encode_gives_latents_and_decode_quantizes_them(signed: Tensor) -> None:
    ours = model()
    with torch.no_grad():
        latents = ours.encode(signed).latents
        assert torch.equal(ours.encode(signed, return_dict=False)[0], latents)
        assert latents.shape == (2, 4, 8, 12)
        codes = ours.encode_codes(signed)
        assert torch.equal(codes, ours.quantize.encode(latents))
        sample, loss = ours.decode(latents, return_dict=False)
        assert torch.equal(sample.clamp(-1, 1), ours.decode_codes(codes))
        assert torch.equal(ours(signed).sample, sample)
        assert torch.equal(ours(signed, return_dict=False)[1], loss)
        assert torch.equal(ours(signed).quantized.codes, codes)
        plain = ours.decode(latents, force_not_quantize=True)
    assert not torch.equal(plain.sample, sample)
    assert torch.equal(plain.commit_loss, torch.zeros(2))


def test_uint8_is_what_it_stands_for(pixels: Tensor, signed: Tensor) -> None:
    ours = model()
    assert torch.equal(ours.encode_codes(pixels), ours.encode_codes(signed))


@pytest.mark.parametrize("change", [CLIP, UNIT], ids=["clip", "unit"])
def test_other_pixel_ranges_are_normalising_by_hand(change: dict[str, Any], signed: Tensor) -> None:
    ours, plain = model(**change), model()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in change.values())
    by_hand = ((signed + 1) / 2 - mean) / std
    with torch.no_grad():
        assert torch.allclose(ours.encode(signed).latents, plain.encode(by_hand).latents, atol=1e-5)
        codes = ours.encode_codes(signed)
        there = plain._decode(plain.quantize.decode(codes)) * std + mean
        assert torch.allclose(ours.decode_codes(codes), (there * 2 - 1).clamp(-1, 1), atol=1e-5)


def test_codes_in_the_place_of_latents(signed: Tensor) -> None:
    ours = model(lookup_from_codebook=True)
    codes = ours.encode_codes(signed)
    with torch.no_grad():
        grid = ours.decode(codes, force_not_quantize=True).sample
        flat = ours.decode(codes.flatten(), force_not_quantize=True, shape=(2, 8, 12, 4)).sample
    assert torch.equal(grid, flat)
    assert torch.equal(grid.clamp(-1, 1), ours.decode_codes(codes))


def test_several_codes_a_token(signed: Tensor) -> None:
    ours = model(quantizer="residual", quantizer_args={"num_quantizers": 3})
    codes = ours.encode_codes(signed)
    assert codes.shape == (2, 8, 12, 3)
    assert ours.decode_codes(codes).shape == signed.shape
    assert message(CodesError, ours.decode_codes, codes[..., 0]) == (
        "codes of this model have the shape (B, h, w, 3), with at least one token; got (2, 8, 12)"
    )


def test_a_generator_draws_nothing(signed: Tensor) -> None:
    ours = model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latents = ours.encode(signed).latents
        with_it = ours.decode(latents, generator=generator).sample
        assert torch.equal(with_it, ours.decode(latents).sample)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


def test_a_training_forward_changes_nothing_but_gradients(signed: Tensor) -> None:
    ours = model().train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    out = ours(signed)
    (out.sample.square().mean() + out.commit_loss).backward()
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())
    assert out.quantized.sums is not None
    assert ours.encoder.conv_in.weight.grad.abs().sum() > 0


def test_encode_codes_is_float32_inside_autocast(signed: Tensor) -> None:
    ours = model()
    codes = ours.encode_codes(signed)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours.encode_codes(signed), codes)
    low = ours.encode_codes(signed, precision="bf16")
    assert low.shape == codes.shape and not torch.equal(low, codes)


def message(kind: type[Exception], call: Any, *args: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args)
    return str(error.value)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (torch.zeros(3, 16, 16), "pixels have the shape (B, 3, H, W); got (3, 16, 16)"),
        (torch.zeros(1, 16, 16, 3), "pixels have the shape (B, 3, H, W); got (1, 16, 16, 3)"),
        (torch.zeros(0, 3, 16, 16), "there is no picture in a batch of the shape (0, 3, 16, 16)"),
        (
            torch.zeros(1, 3, 16, 18),
            "the sides of a picture are multiples of 4 x 4; got 16 x 18 (vqtok.preprocess crops or "
            "pads to fit)",
        ),
        (
            torch.zeros(1, 3, 0, 16),
            "the sides of a picture are multiples of 4 x 4; got 0 x 16 (vqtok.preprocess crops or "
            "pads to fit)",
        ),
        (
            torch.zeros(1, 3, 16, 16, dtype=torch.int64),
            "pixels are uint8, or floats in [-1, 1]; got a tensor of torch.int64",
        ),
        (
            torch.full((1, 3, 16, 16), 255.0),
            "float pixels are finite and lie in [-1, 1]; got values from 255 to 255 (uint8 pixels "
            "may be passed as they are)",
        ),
        (
            torch.full((1, 3, 16, 16), torch.nan),
            "float pixels are finite and lie in [-1, 1]; got values from nan to nan (uint8 pixels "
            "may be passed as they are)",
        ),
        (
            torch.full((1, 3, 16, 16), -torch.inf),
            "float pixels are finite and lie in [-1, 1]; got values from -inf to -inf (uint8 "
            "pixels may be passed as they are)",
        ),
    ],
)
def test_pixels_that_cannot_be(pixels: Tensor, expected: str) -> None:
    assert message(ImageError, model().encode_codes, pixels) == expected


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (
            torch.zeros(4, 4, dtype=torch.int64),
            "codes of this model have the shape (B, h, w), with at least one token; got (4, 4)",
        ),
        (
            torch.zeros(0, 4, 4, dtype=torch.int64),
            "codes of this model have the shape (B, h, w), with at least one token; got (0, 4, 4)",
        ),
        (torch.zeros(1, 4, 4), "codes are whole numbers; got a tensor of torch.float32"),
        (
            torch.tensor([[[0, 64]]]),
            "codes of this tokenizer lie in [0, 64); got some from 0 to 64",
        ),
        (
            torch.tensor([[[-1, 3]]]),
            "codes of this tokenizer lie in [0, 64); got some from -1 to 3",
        ),
    ],
)
def test_codes_that_cannot_be(codes: Tensor, expected: str) -> None:
    assert message(CodesError, model().decode_codes, codes) == expected


def test_latents_that_cannot_be() -> None:
    assert message(InputError, model().decode, torch.zeros(1, 5, 4, 4)) == (
        "latents for this quantizer have the shape (B, 4, *grid); got (1, 5, 4, 4)"
    )


# --- a norm before quantization -------------------------------------------------------------------


@torch.no_grad()
def test_latents_are_normalised_over_their_channels(signed: Tensor, tmp_path: Path) -> None:
    ours = model(pre_quant_norm="layer")
    norm = ours.quant_conv.norm
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    plain = ours.quant_conv.project(ours.encoder(signed))
    mean, var = plain.mean(1, keepdim=True), plain.var(1, keepdim=True, correction=0)
    by_hand = (plain - mean) / (var + norm.eps).sqrt()
    by_hand = by_hand * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(ours.encode(signed).latents, by_hand, atol=1e-5)
    ours.save_pretrained(tmp_path)
    again = AutoencoderVQ.from_pretrained(tmp_path)
    assert torch.equal(again.encode_codes(signed), ours.encode_codes(signed))


def test_only_its_own_settings_bring_the_norm() -> None:
    assert model().state_dict().keys() == model(pre_quant_norm="none").state_dict().keys()
    with_norm = model(pre_quant_norm="layer").state_dict().keys()
    assert {name for name in with_norm if name.startswith("quant_conv.")} == {
        f"quant_conv.{part}.{kind}" for part in ("project", "norm") for kind in ("weight", "bias")
    }
    assert message(ConfigError, lambda: model(pre_quant_norm="batch")) == (
        "pre_quant_norm is 'none' or 'layer'; got 'batch'"
    )


def test_larger_convolutions_around_the_codes(signed: Tensor) -> None:
    ours = model(quant_conv_kernel=3)
    for conv in (ours.quant_conv, ours.post_quant_conv):
        assert conv.weight.shape[2:] == (3, 3)
    codes = ours.encode_codes(signed)
    assert codes.shape == (2, 8, 12)
    assert ours.decode_codes(codes).shape == signed.shape


@pytest.mark.parametrize("kernel", [0, 2, -1])
def test_convolutions_around_the_codes_have_a_middle(kernel: int) -> None:
    with pytest.raises(ConfigError) as error:
        model(quant_conv_kernel=kernel)
    assert str(error.value) == f"quant_conv_kernel is an odd number from 1; got {kernel}"
