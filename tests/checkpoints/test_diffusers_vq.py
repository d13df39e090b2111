from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import codes_among, pixels
from checkpoints.samples.diffusers_vq import KINDS, reference, sample
from diffusers import VQModel
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.loading import load_model
from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.diffusers_vq import plan, recognises
from vqtok.errors import ConfigError
from vqtok.preprocess import Preprocess


def planned(kind: str = "movq", **settings: Any) -> Plan:
    tensors, said = sample(kind)
    return plan(Foreign(tensors, {**said, **settings}, "model.safetensors"))


@torch.no_grad()
def with_codes(model: VQModel) -> VQModel:
    """Codes where latents are, or all pixels have one."""
    latents = model.encode(pixels(2, 3, 24, 16)).latents
    table = codes_among(latents.movedim(1, -1).flatten(0, 2), 64)
    model.quantize.embedding.weight.data = table
    return model


def ids(model: VQModel, latents: Tensor) -> Tensor:
    found: Tensor = model.quantize(latents)[2][2]
    return found


@torch.no_grad()
def check(ours: AutoencoderBase, theirs: VQModel) -> None:
    """The same latents, ids and pixels, of ids as well where the model looks them up."""
    x = pixels(2, 3, 24, 16)
    latents = theirs.encode(x).latents
    assert agree(ours.encode(x).latents, latents)
    codes = ours.encode_codes(x)
    assert same_ids(codes, ids(theirs, latents))
    made = theirs.decode(latents).sample
    assert agree(ours.decode(latents).sample, made)
    assert agree(ours.decode_codes(codes), made.clamp(-1, 1))
    if theirs.config.lookup_from_codebook:
        shape = (2, 12, 8, 8)
        there = theirs.decode(codes, force_not_quantize=True, shape=shape).sample
        assert agree(ours.decode(codes, force_not_quantize=True, shape=shape).sample, there)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_file_and_its_config(kind: str) -> None:
    theirs = with_codes(reference(kind))
    said = dict(theirs.config)
    found = plan(Foreign(theirs.state_dict(), said, "model.safetensors"))
    ours = built(found)
    check(ours, theirs)
    assert {name: ours.config[name] for name in KINDS[kind]} == KINDS[kind]
    assert ours.config.scaling_factor == 0.18215
    assert TRAINING.items() <= found.settings.items()
    assert found.preprocess == Preprocess(policy="native", stride=2)
    assert found.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_needs_no_conversion(kind: str, tmp_path: Path) -> None:
    theirs = with_codes(reference(kind))
    theirs.save_pretrained(tmp_path)
    check(load_model(tmp_path), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_tell_all_but_a_few(kind: str) -> None:
    alone = plan(Foreign(sample(kind)[0], {}, "model.safetensors"))
    told = ("force_upcast", "lookup_from_codebook", "sample_size", "scaling_factor", "act_fn")
    config = planned(kind).settings
    assert alone.settings == {k: v for k, v in config.items() if k not in told}
    assert alone.notes == (
        "No config.json tells act_fn=silu, force_upcast=False, lookup_from_codebook=False, "
        "norm_num_groups=32 and sample_size=32: VQModel's defaults are taken.",
        "No config.json says scaling_factor, so it is 1: VQModel's default, .18215, is that of "
        "another kind of latents.",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"act_fn": "tanh"},
            "act_fn is one of silu, swish, mish, gelu, relu; {} 'tanh'",
        ),
        ({"norm_num_groups": 0}, "norm_num_groups is a whole number of at least 1; {} 0"),
        (
            {"norm_num_groups": 5},
            "the settings say norm_num_groups=5, which does not divide the 32 channels of a level "
            "in model.safetensors",
        ),
        ({"sample_size": None}, "sample_size is a whole number of at least 1; {} None"),
        ({"scaling_factor": 0}, "scaling_factor is a number above 0; {} 0"),
        ({"lookup_from_codebook": "no"}, "lookup_from_codebook is true or false; {} 'no'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message.format("the settings of the checkpoint say")


@torch.no_grad()
def test_the_older_names_of_attention() -> None:
    new, said = sample()
    names = (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    )
    old = {}
    for key, tensor in new.items():
        for now, then in names:
            key = key.replace(now, then)
        old[key] = tensor
    assert old.keys() != new.keys()
    found = plan(Foreign(old, said, "model.bin"))
    assert found.weights.keys() == planned().weights.keys()
    built(found)


def test_groups_that_cannot_be_32() -> None:
    narrow = VQModel(block_out_channels=(24,), norm_num_groups=8).state_dict()
    with pytest.raises(ConfigError) as error:
        plan(Foreign(narrow, {}, "model.safetensors"))
    assert str(error.value) == (
        "model.safetensors does not tell norm_num_groups, the groups of each norm, nearly always "
        "32: pass the YAML or JSON that it was trained with as config, or norm_num_groups itself"
    )
    found = plan(Foreign(narrow, {"norm_num_groups": 8}, "model.safetensors"))
    assert found.settings["norm_num_groups"] == 8


def test_what_it_is_known_by() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    # One of this package says more about itself, and needs its config.json.
    assert not recognises(tensors | {"quantize.steps": torch.zeros(())})
    assert not recognises({k: t for k, t in tensors.items() if not k.startswith("quantize.")})
