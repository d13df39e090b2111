from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.samples.titok import CODES, DIM, TOKENS, one_stage_sample, pictures, sample
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.titok import plan, recognises
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

GOLDEN = Path(__file__).resolve().parents[1] / "golden/titok.safetensors"
KINDS = {"two": sample, "one": one_stage_sample}
every = pytest.mark.parametrize("kind", KINDS)


def planned(
    kind: str = "two",
    changes: Mapping[str, Tensor | None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    tensors, said = KINDS[kind]()
    for key, tensor in (changes or {}).items():
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor
    return plan(Foreign(tensors, said if settings is None else dict(settings), "titok.bin"))


@every
@torch.no_grad()
def test_it_computes_what_the_reference_does(kind: str) -> None:
    """See golden/titok.md. Theirs in [0, 1], ours in [-1, 1]."""
    model, golden = built(planned(kind)), load_file(GOLDEN)
    theirs = {name: golden[f"{kind}.{name}"] for name in ("latents", "codes", "pixels")}
    latents = model.encode(pictures()).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(pictures())
    assert codes.shape == (8, TOKENS)
    assert same_ids(codes, theirs["codes"])
    ours = model.decode(latents).sample
    assert agree((ours + 1) / 2, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), ours.clamp(-1, 1))


@every
def test_codes_by_direction_or_by_place(kind: str) -> None:
    """As its settings say, which neither keys nor shapes tell."""
    model = built(planned(kind))
    lengths = model.quantize.embedding.table().norm(dim=1)
    assert torch.allclose(lengths, torch.ones(CODES)) == (kind == "two")


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "titok"
    networks = {
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": 16,
        "num_latent_tokens": TOKENS,
        "patch_size": 4,
        "latent_channels": 128,
        "depth": 2,
        "heads": 2,
        "decoder_channels": 64,
        "decoder_depth": 1,
        "decoder_heads": 1,
        "num_vq_embeddings": CODES,
        "vq_embed_dim": DIM,
        "pixel_mean": (0.0, 0.0, 0.0),
        "pixel_std": (1.0, 1.0, 1.0),
        "quantizer": "vector",
        "estimator": "ste",
    }
    proxy = {
        "two_stage": True,
        "proxy_codes": 40,
        "proxy_channels": 8,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 2,
        "norm_num_groups": 32,
    }
    training = {
        "codebook_update": "gradient",
        "commitment_weight": 0.25,
        "dead_codes": "off",
        "start": "uniform",
    }
    args = {"use_cosine_sim": True, **training}
    assert found.settings == {**networks, **proxy, "quantizer_args": args}
    assert found.preprocess == Preprocess(
        policy="torchvision", size=16, stride=16, resize="pillow-bicubic"
    )
    assert not found.dropped and not found.discriminator and len(found.notes) == 2
    single = planned("one")
    args = {"use_cosine_sim": False, **training}
    assert single.settings == {**networks, "two_stage": False, "quantizer_args": args}
    assert single.preprocess == found.preprocess and len(single.notes) == 1


def test_settings_in_other_places() -> None:
    """The caller's come last; the second stage says 0, for it trains no encoder."""
    settings = sample()[1]
    for said in (
        {"use_l2_norm": True},
        {"vq_model": {"use_l2_norm": True, "commitment_cost": 0.0}},
        {**settings, "commitment_cost": 0.25},
    ):
        assert planned(settings=said).settings == planned().settings
    found = planned(settings={**settings, "use_l2_norm": False, "commitment_cost": 0.5})
    args = found.settings["quantizer_args"]
    assert (args["use_cosine_sim"], args["commitment_weight"]) == (False, 0.5)


def test_other_patches_in_the_decoder() -> None:
    tensors, _ = one_stage_sample()
    found = planned(
        "one",
        {
            "decoder.positional_embedding": tensors["decoder.positional_embedding"][:5],
            "decoder.ffn.0.weight": torch.zeros(8 * 8 * 3, 64, 1, 1),
            "decoder.ffn.0.bias": torch.zeros(8 * 8 * 3),
        },
    )
    assert found.settings["decoder_patch_size"] == 8
    assert built(found).decode_codes(torch.zeros(1, TOKENS, dtype=torch.int64)).shape[2:] == (
        16,
        16,
    )


@every
@torch.no_grad()
def test_a_published_folder_becomes_a_tokenizer(kind: str, tmp_path: Path) -> None:
    tensors, settings = KINDS[kind]()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    made = build(tmp_path)
    assert made.family == "titok"
    codes = made.model.encode_codes(pictures())
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert codes.shape == again.shape == (8, TOKENS)


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    del tensors["latent_tokens"]
    assert not recognises(tensors)


NOTHING = torch.zeros(1)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "one",
            {"decoder.text_guidance_proj.weight": NOTHING},
            "titok.bin is a TA-TiTok, whose decoder wants the text that belongs to a picture; "
            "vqtok takes TiTok alone",
        ),
        (
            "one",
            {"quantize.embedding.weight": None},
            "titok.bin is a TiTok without codes (quantize_mode: vae)",
        ),
        (
            "two",
            {"pixel_quantize.embedding.weight": None},
            "titok.bin is of TiTok's first stage: its decoder gives codes of MaskGIT-VQGAN, and "
            "no pixels; take the checkpoint of the second stage",
        ),
        ("two", {"decoder.mask_token": None}, "titok.bin lacks 'decoder.mask_token'"),
        (
            "two",
            {"encoder.positional_embedding": torch.zeros(16, 128)},
            "the encoder in titok.bin has 15 patches, which make no square",
        ),
        (
            "two",
            {"decoder.positional_embedding": torch.zeros(17, 80)},
            "the decoder in titok.bin is 80 wide; TiTok's heads are 64 wide each",
        ),
        (
            "two",
            {"decoder.positional_embedding": torch.zeros(10, 64)},
            "the encoder in titok.bin sees pictures of 16 x 16 pixels, which the decoder's 3 x 3 "
            "patches do not divide",
        ),
        (
            "two",
            {"encoder.ln_mid.weight": NOTHING},
            "titok.bin holds 'encoder.ln_mid.weight', which is no key of its family",
        ),
    ],
)
def test_files_that_cannot_be(
    kind: str, changes: Mapping[str, Tensor | None], message: str
) -> None:
    with pytest.raises(LoadError) as error:
        planned(kind, changes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            "titok.bin does not tell use_l2_norm, whether codes are compared by direction: true in "
            "L-32, B-64 and S-128, else false: pass the YAML or JSON that it was trained with as "
            "config, or use_l2_norm itself",
        ),
        (
            {"use_l2_norm": "yes"},
            "use_l2_norm is true or false; the settings of the checkpoint say 'yes'",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(settings=settings)
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(), (3,), (0, 3)])
@pytest.mark.parametrize(
    ("key", "axes"),
    [
        ("latent_tokens", 2),
        ("encoder.patch_embed.weight", 4),
        ("encoder.positional_embedding", 2),
        ("encoder.conv_out.weight", 4),
        ("decoder.positional_embedding", 2),
        ("decoder.decoder_embed.weight", 2),
        ("decoder.mask_token", 3),
        ("quantize.embedding.weight", 2),
        ("pixel_quantize.embedding.weight", 2),
    ],
)
def test_shapes_that_tell_nothing(key: str, axes: int, shape: tuple[int, ...]) -> None:
    tensors, settings = sample()
    with pytest.raises(LoadError) as error:
        plan(Foreign({**tensors, key: torch.ones(shape)}, settings, "x.bin"))
    assert str(error.value) == (
        f"x.bin holds {key!r} of shape {shape}; it has {axes} axes, each at least 1"
    )


def test_no_patches() -> None:
    tensors, settings = sample()
    wide = tensors["decoder.positional_embedding"].shape[1]
    tensors = {**tensors, "decoder.positional_embedding": torch.ones(1, wide)}
    with pytest.raises(LoadError) as error:
        plan(Foreign(tensors, settings, "x.bin"))
    assert str(error.value) == "the decoder in x.bin has 0 patches, which make no square"
