from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.chameleon import original, reference, sample
from PIL import Image

from vqtok.checkpoints import Foreign
from vqtok.checkpoints.chameleon import plan
from vqtok.checkpoints.taming_parts import kind_of
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError
from vqtok.preprocess import Preprocess, preprocess

PIXELS = (
    "Pixels are those of the original, pixel / 127.5 - 1. transformers' processor multiplies by "
    ".0078 instead of 1 / 127.5, so its white is .989, and a few of its ids are others."
)
MISSING = (
    "this model has no decoder (up_block_types is empty): it makes ids, and pictures of them only "
    "with weights that it was not given. Of Chameleon's tokenizer the original vqgan.ckpt has both"
)


def planned() -> Foreign:
    tensors, said = sample()
    return plan(Foreign(tensors, hoisted(said), "chameleon"))


@torch.no_grad()
def test_its_ids_are_those_of_transformers() -> None:
    theirs, model = reference(), built(planned())
    x = pixels(2, 3, 24, 32)
    found = theirs.encode(x)
    codes = model.encode_codes(x)
    assert codes.shape == (2, 6, 8)
    assert same_ids(codes, found.image_tokens)
    latents = theirs.quant_conv(found.last_hidden_state)
    assert agree(model.encode(x).latents, latents)
    assert agree(model.quantize.decode(codes), found.quantized_last_hidden_state)


def test_without_a_decoder_it_says_so() -> None:
    model = built(planned())
    for decode in (
        lambda: model.decode_codes(torch.zeros(1, 2, 2, dtype=torch.int64)),
        lambda: model.decode(torch.zeros(1, 8, 2, 2)),
        lambda: model.last_layer,
    ):
        with pytest.raises(ConfigError) as error:
            decode()
        assert str(error.value) == MISSING
    with pytest.raises(ConfigError) as error:
        model.to_diffusers()
    assert str(error.value) == (
        "diffusers' VQModel cannot express this model: it has no decoder (up_block_types)"
    )


def test_an_encoder_alone_is_saved_and_loaded(tmp_path: object) -> None:
    model = built(planned())
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    x = pixels(1, 3, 16, 16)
    assert torch.equal(again.encode_codes(x), model.encode_codes(x))


def test_the_plan_of_transformers_form() -> None:
    found = planned()
    assert found.settings["up_block_types"] == ()
    assert found.settings["down_block_types"] == ("DownEncoderBlock2D",) * 3
    assert found.preprocess == Preprocess(
        policy="taming", resize="pillow-lanczos", size=512, stride=4
    )
    assert found.notes == (
        PIXELS,
        "The file holds no decoder: the model makes ids and decodes none. The original vqgan.ckpt "
        "holds both, with the same ids.",
    )


@torch.no_grad()
def test_the_original_decodes() -> None:
    tensors = original()
    assert kind_of(tensors) == kind_of(sample()[0]) == "chameleon"
    attends = {"encoder.down.1.attn.0.q.weight": torch.zeros(32, 32, 1, 1)}
    assert kind_of(tensors | attends) == "taming"
    found = plan(Foreign(tensors, {"resolution": 512}, "vqgan.ckpt"))
    assert found.notes == (PIXELS,)
    model = built(found)
    codes = model.encode_codes(pixels(1, 3, 8, 8))
    assert model.decode_codes(codes).shape == (1, 3, 8, 8)


def test_pictures_as_its_authors_prepare_them() -> None:
    stream = np.random.default_rng(0)
    noise = stream.integers(0, 256, (70, 101, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize((707, 600), Image.Resampling.BICUBIC)
    # The short side to 512, rows first, and the middle.
    rows = picture.resize((round(512 / 600 * 707), 600), Image.Resampling.LANCZOS)
    scaled = rows.resize((rows.width, 512), Image.Resampling.LANCZOS)
    left = (scaled.width - 512) // 2
    wanted = np.asarray(scaled.crop((left, 0, left + 512, 512)))
    assert np.array_equal(preprocess(picture, planned().preprocess), wanted)
