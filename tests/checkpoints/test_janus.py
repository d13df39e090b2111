from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import llamagen
from checkpoints.samples.janus import oracle, picture, sample
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.janus import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.preprocess import Preprocess, preprocess

PICTURES = (
    "Nothing tells which pictures the tokenizer of Janus was trained on. Here they are brought to "
    "a square as Janus does it with those that it reads: whole, by Pillow's bicubic, with grey "
    "around them. It rounds their short side down, to 14 pixels at least, and transformers resizes "
    "by torch's bicubic."
)


def padded(size: int) -> Preprocess:
    return Preprocess(
        policy="pad", size=size, stride=4, resize="pillow-bicubic", background=(127, 127, 127)
    )


def planned() -> Plan:
    tensors, said = sample()
    return plan(Foreign(tensors, hoisted(said), "janus"))


@torch.no_grad()
def test_it_computes_what_transformers_does() -> None:
    model, theirs, x = built(planned()), oracle(), picture()
    latents = model.encode(x).latents
    expected = theirs.quant_conv(theirs.encoder(x))
    assert agree(latents, expected)
    codes = model.encode_codes(x)
    expected = theirs.decode(codes.flatten(1))
    assert agree(model.decode(latents).sample, expected)
    assert agree(model.decode_codes(codes), expected.clamp(-1, 1))


@torch.no_grad()
def test_ids_are_theirs_once_their_latents_are_normalised() -> None:
    """As DeepSeek's code has them; transformers forgets to, and finds others."""
    model, theirs, x = built(planned()), oracle(), picture()
    codes = model.encode_codes(x)
    latents = theirs.quant_conv(theirs.encoder(x))
    forgetful = theirs.encode(x).image_tokens
    theirs.quantize.embedding.weight.data = F.normalize(theirs.quantize.embedding.weight, dim=1)
    _, _, ids = theirs.quantize(F.normalize(latents, dim=1))
    assert same_ids(codes, ids)
    assert (forgetful != ids).float().mean() > 0.1


def test_what_is_planned() -> None:
    found = planned()
    assert found.settings["up_block_types"] == (
        "AttnUpDecoderBlock2D",
        "UpDecoderBlock2D",
        "UpDecoderBlock2D",
    )
    assert found.settings["sample_size"] == 24
    assert found.preprocess == padded(24)
    assert found.settings["quantizer_args"]["use_cosine_sim"]
    assert found.notes[-2] == PICTURES
    assert found.notes[-1] == (
        "transformers' JanusVQVAE.encode compares latents with codes as they are; here latents "
        "are normalised first, as in DeepSeek's own code and in training, so ids are not those of "
        "transformers."
    )


def test_pictures_are_of_384_unless_something_else_is_said() -> None:
    tensors, _ = sample()
    assert plan(Foreign(tensors, {}, "janus")).preprocess.size == 384


def test_pictures_are_what_transformers_makes_of_them() -> None:
    """But for the filter, which differs by little, and the rounding of the short side."""
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    x = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    theirs = JanusImageProcessorPil(
        size={"height": 384, "width": 384}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )(Image.fromarray(x), return_tensors="pt")["pixel_values"][0]
    tensors, _ = sample()
    ours = preprocess(x, plan(Foreign(tensors, {}, "janus")).preprocess)
    again = ((theirs.movedim(0, -1) + 1) * 127.5).round()
    assert (again - torch.from_numpy(ours.astype(np.float32))).abs().max() <= 1


def test_the_original_file_is_known_by_its_settings() -> None:
    """Without its prefix it has LlamaGen's keys, and either family makes the same of it."""
    tensors, _ = llamagen.sample()
    foreign = Foreign(tensors, {"gen_vision_config": {"cls": "VQ-16"}}, "janus")
    for name in ("janus", "llamagen"):
        found = FAMILIES[name].plan(foreign)
        assert found.preprocess == padded(384)
        assert found.notes[-1] == PICTURES


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    tensors["decoder.up.2.upsample.conv.weight"] = tensors.pop("decoder.up.0.upsample.conv.weight")
    assert not recognises(tensors)  # taming's order


@torch.no_grad()
def test_from_the_whole_model(tmp_path: Path) -> None:
    tensors, said = sample()
    whole: dict[str, Any] = {f"model.vqmodel.{key}": t for key, t in tensors.items()}
    whole["model.language_model.embed_tokens.weight"] = torch.ones(2, 2)
    save_file({k: t.contiguous() for k, t in whole.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(said))
    found = build(tmp_path)
    assert found.family == "janus"
    codes = found.model.encode_codes(picture())
    assert codes.shape == (2, 6, 6) and len(codes.unique()) >= 10
    again = found.model.encode_codes(found.model.decode_codes(codes))
    assert again.shape == codes.shape


@torch.no_grad()
def test_from_the_original_file(tmp_path: Path) -> None:
    tensors, _ = llamagen.sample()
    whole: dict[str, Any] = {f"gen_vision_model.{key}": t for key, t in tensors.items()}
    whole["language_model.model.embed_tokens.weight"] = torch.ones(2, 2)
    torch.save(whole, tmp_path / "pytorch_model.bin")
    config = {"model_type": "multi_modality", "gen_vision_config": {"cls": "VQ-16", "params": {}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = build(tmp_path)
    told = build(tmp_path, "janus")  # as `vqtok info --list` calls it
    assert (told.family, told.report.notes) == ("janus", found.report.notes)
    assert found.preprocess.size == 384
    assert (found.family, found.report.family) == ("janus", "janus")
    assert found.report.title == "the image tokenizer of Janus"
    assert found.report.licence == "DeepSeek Model License, which restricts use"
    assert same_ids(found.model.encode_codes(pixels(2, 3, 24, 32)), llamagen.golden()["codes"])
