from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import llamagen
from checkpoints.samples.janus import oracle, picture, sample
from safetensors.torch import save_file
from torch.nn import functional as F

from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.janus import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.preprocess import Preprocess


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
    assert found.preprocess == Preprocess.preset("adm", 24, 4)
    assert found.settings["quantizer_args"]["use_cosine_sim"]
    assert found.notes[1] == (
        "transformers' JanusVQVAE.encode compares latents with codes as they are; here latents "
        "are normalised first, as in DeepSeek's own code and in training, so ids are not those of "
        "transformers."
    )


def test_pictures_are_of_384_unless_something_else_is_said() -> None:
    tensors, _ = sample()
    assert plan(Foreign(tensors, {}, "janus")).preprocess.size == 384


def test_the_original_file_is_known_by_its_settings() -> None:
    """Without its prefix it has LlamaGen's keys, and either family makes the same of it."""
    tensors, _ = llamagen.sample()
    foreign = Foreign(tensors, {"gen_vision_config": {"cls": "VQ-16"}}, "janus")
    for name in ("janus", "llamagen"):
        assert FAMILIES[name].plan(foreign).preprocess == Preprocess.preset("adm", 384, 4)


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
    assert found.preprocess.size == 384
    assert same_ids(found.model.encode_codes(pixels(2, 3, 24, 32)), llamagen.golden()["codes"])
