"""What a model of 1-D codes has of its own; `test_contract` holds for it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from autoencoders.toys import TOYS, pixels, signed, toy

from vqtok import VisualTokenizer
from vqtok.autoencoders import AutoencoderBase, AutoencoderVQTiTok
from vqtok.errors import CodesError, ImageError
from vqtok.preprocess import Preprocess

LENGTH = 64


def single(**changes: Any) -> AutoencoderBase:
    return toy("titok", two_stage=False, **changes)


def test_the_grid_of_its_one_size() -> None:
    ours = toy("titok")
    assert ours.grid_of((32, 32)) == (LENGTH,)
    assert ours.size_of((LENGTH,)) == ours.probe_size() == (32, 32)
    assert ours.code_axes == 1 and not ours.is_video
    with pytest.raises(ImageError) as error:
        ours.grid_of((64, 64))
    assert str(error.value) == "the sides of a picture are 32 x 32; got 64 x 64"
    with pytest.raises(CodesError) as wrong:
        ours.size_of((8, 8))
    assert str(wrong.value) == "a picture has 64 tokens of this model; got 8 x 8"


def test_another_number_of_codes() -> None:
    ours = toy("titok")
    with pytest.raises(CodesError) as error:
        ours.decode_codes(torch.zeros(2, 1, dtype=torch.int64))
    assert str(error.value) == "a picture has 64 tokens of this model; got 1"


def test_several_codes_a_token() -> None:
    args = {"num_quantizers": 2, "start": "kaiming"}
    settings = {**TOYS["titok"], "num_vq_embeddings": 16}
    ours = AutoencoderVQTiTok(**settings, quantizer="residual", quantizer_args=args).eval()
    codes = ours.encode_codes(pixels(ours))
    assert codes.shape == (2, LENGTH, 2)
    assert ours.decode_codes(codes).shape == (2, 3, 32, 32)


@torch.no_grad()
def test_tiles_and_slices_change_nothing() -> None:
    ours = toy("titok")
    x = pixels(ours)
    codes = ours.encode_codes(x)
    whole = ours.decode_codes(codes)
    ours.enable_tiling()
    assert torch.equal(ours.encode_codes(x), codes) and torch.equal(ours.decode_codes(codes), whole)
    ours.enable_slicing()
    assert torch.equal(ours.encode_codes(x), codes)
    assert torch.allclose(ours.decode_codes(codes), whole, atol=1e-5)


def test_a_decoder_of_pixels() -> None:
    ours = single().train()
    assert ours.last_layer.shape == (3, 3, 3, 3)
    out = ours(signed(pixels(ours)))
    assert out.sample.shape == (2, 3, 32, 32)
    (out.sample.square().mean() + out.commit_loss).backward()
    grads = {name: weight.grad for name, weight in ours.named_parameters() if weight.requires_grad}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values())


def test_what_the_second_stage_trains() -> None:
    """With encoder and codebook frozen: the transformer, the proxy codes, and their decoder."""
    ours = toy("titok").train()
    for part in (ours.encoder, ours.quant_conv, ours.quantize):
        part.requires_grad_(False)
    out = ours(signed(pixels(ours)))
    out.sample.square().mean().backward()
    for weight in (*ours.decoder.parameters(), *ours.post_quant_conv.parameters()):
        assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_a_tokenizer(tmp_path: Path) -> None:
    settings = Preprocess(policy="center", size=32, stride=32)
    tok = VisualTokenizer.from_model(toy("titok"), settings)
    tok.save_pretrained(tmp_path)
    again = VisualTokenizer.from_pretrained(tmp_path)
    picture = pixels(toy("titok"))[0].movedim(0, -1).numpy()
    ids = again.encode(picture)
    (codes,) = again.encode_codes([picture])
    assert codes.shape == (LENGTH,) and ids == tok.encode(picture)
    assert again.codebook.shape == (64, 4)
    one, other = again.decode(ids, output_type="np"), tok.decode_codes([codes], output_type="np")[0]
    assert one.shape == (32, 32, 3) and (one == other).all()
