from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.enhancing_vit import golden, sample
from torch import Tensor

from vqtok.autoencoders import AutoencoderVQViT
from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.enhancing_vit import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

UNTOLD = (
    "Nothing tells use_norm=True and use_residual=False, as the source has it by default. Ids "
    "depend on that."
)
TRAINED = (
    "Nothing tells how it was trained: beta=0.25, as of the published ones. Training alone depends "
    "on that."
)


def planned(changes: dict[str, Tensor | None] | None = None, **settings: Any) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample()
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**hoisted(said), **settings}, "vit.ckpt"))


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    model, theirs = built(planned()), golden()
    x = pixels(2, 3, 24, 40)
    latents = model.encode(x).latents
    rows = latents.flatten(2).movedim(1, 2)
    assert agree(rows, theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (2, 6, 10)
    assert same_ids(codes, theirs["codes"])
    ours = model.decode(latents).sample
    # Theirs in [0, 1], ours in [-1, 1].
    assert agree((ours + 1) / 2, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), ours.clamp(-1, 1))


def test_what_is_planned() -> None:
    found = planned()
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": 4,
        "latent_channels": 24,
        "depth": 2,
        "heads": 3,
        "mlp_dim": 40,
        "decoder_channels": 16,
        "decoder_depth": 3,
        "decoder_heads": 2,
        "decoder_mlp_dim": 24,
        "dim_head": 64,
        "sample_size": 40,
        "num_vq_embeddings": 64,
        "vq_embed_dim": 8,
        "pixel_mean": (0.0, 0.0, 0.0),
        "pixel_std": (1.0, 1.0, 1.0),
        "quantizer": "vector",
        "quantizer_args": {
            "codebook_update": "gradient",
            "commitment_weight": 0.25,
            "dead_codes": "off",
            "start": "normal",
            "use_cosine_sim": True,
        },
        "estimator": "ste",
    }
    assert found.preprocess == Preprocess(
        policy="stretch", size=(24, 40), stride=4, resize="pillow-bilinear"
    )
    assert found.dropped == {
        "decoder.de_pos_embedding": "positions are computed",
        "encoder.en_pos_embedding": "positions are computed",
        "loss.discriminator.final_linear.1.weight": (
            "a StyleGAN discriminator with a minibatch deviation, which training has not"
        ),
        "loss.perceptual_loss.lin0.model.1.weight": "a part of the loss",
    }
    assert found.notes[:-1] == (UNTOLD, TRAINED)


def test_what_is_assumed() -> None:
    assert UNTOLD not in planned(use_norm=True, use_residual=False).notes
    assert TRAINED not in planned(quantizer={"beta": 0.25}).notes
    assert planned(use_norm=True).notes[0] == (
        "Nothing tells use_residual=False, as the source has it by default. Ids depend on that."
    )


def test_shapes_tell_what_no_settings_say() -> None:
    tensors, _ = sample()
    assert plan(Foreign(tensors, {}, "vit.ckpt")).settings == planned().settings


@torch.no_grad()
def test_the_loss_is_the_sources() -> None:
    model = built(planned()).train()
    z = torch.randn(2, 8, 4, 4)
    e = torch.nn.functional.normalize(z, dim=1)
    q = model.quantize.decode(model.quantize.encode(z))
    gap = (e - q).square().mean()
    out = model.quantize(z)
    assert torch.allclose(model.quantize.total_loss(out.losses), 1.25 * gap)


@torch.no_grad()
def test_an_equal_decoder_has_no_settings_of_its_own() -> None:
    """Or the print of its decoder would differ from that of an equal model."""
    torch.manual_seed(0)
    ours = AutoencoderVQViT(
        patch_size=4, latent_channels=8, depth=1, heads=1, mlp_dim=8, vq_embed_dim=4
    )
    there = as_published(ours, grid=8)
    found = plan(Foreign(there, {}, "vit.ckpt"))
    assert not [name for name in found.settings if name.startswith("decoder_")]
    again = built(found)
    assert found.settings["sample_size"] == 32
    assert found.preprocess == Preprocess.preset("torchvision", 32, 4)
    assert found.notes[0] == (
        "The source squeezes what it validates on to a square; here pictures are resized by their "
        "short side and cut, as in its training, in the middle. policy='stretch' is the former."
    )
    for key, weight in ours.state_dict().items():
        if key not in ("quantize.count", "quantize.total", "quantize.steps"):
            assert torch.equal(again.state_dict()[key], weight)


def as_published(ours: AutoencoderVQViT, grid: int) -> dict[str, Tensor]:
    """The inverse of the family's map, written the other way round."""
    from vqtok.architectures.positions import plane

    there: dict[str, Tensor] = {}
    for key, weight in ours.state_dict().items():
        name = key.replace("trunk.blocks", "transformer.layers").replace("trunk.", "transformer.")
        for new, old in (
            ("attention_norm", "0.norm"),
            ("attention.qkv", "0.fn.to_qkv"),
            ("attention.out", "0.fn.to_out"),
            ("mlp_norm", "1.norm"),
            ("mlp.", "1.fn.net."),
            ("from_patch", "to_patch_embedding.0"),
            ("to_patch.", "to_pixel.1."),
            ("post_quant_conv", "post_quant"),
            ("quant_conv", "pre_quant"),
            ("quantize.", "quantizer."),
        ):
            name = name.replace(new, old)
        there[name] = weight.flatten(1) if "pre_quant.w" in name else weight
        if "post_quant.w" in name:
            there[name] = weight.flatten(1)
    for name in ("count", "total", "steps"):
        there.pop(f"quantizer.{name}", None)
    table = plane(grid, grid, grid, ours.config.latent_channels, torch.device("cpu"))[None]
    return {**there, "encoder.en_pos_embedding": table, "decoder.de_pos_embedding": table}


@torch.no_grad()
def test_one_head_without_a_projection() -> None:
    """The source has none where a single head is as wide as the tokens."""
    torch.manual_seed(0)
    ours = AutoencoderVQViT(
        patch_size=4,
        latent_channels=64,
        depth=1,
        heads=1,
        mlp_dim=8,
        vq_embed_dim=4,
        num_vq_embeddings=16,
    )
    there = as_published(ours, grid=4)
    for side in ("encoder", "decoder"):
        for part in ("weight", "bias"):
            del there[f"{side}.transformer.layers.0.0.fn.to_out.{part}"]
    found = plan(Foreign(there, {}, "vit.ckpt"))
    assert torch.equal(found.weights["encoder.trunk.blocks.0.attention.out.weight"], torch.eye(64))
    assert not found.weights["decoder.trunk.blocks.0.attention.out.bias"].any()
    assert found.notes[1] == (
        "Attention of one head has no projection behind it there; here that is the identity."
    )
    built(found)


@torch.no_grad()
def test_residual_codes() -> None:
    """Of one table, by distance; the source's own words for it are in its quantizer."""
    said = {"use_residual": True, "use_norm": False, "num_quantizers": 3}
    model = built(planned(quantizer=said))
    table = golden()["table"]
    x = pixels(1, 3, 24, 40)
    rest = model.encode(x).latents.flatten(2).movedim(1, 2)[0]
    ids, total = [], torch.zeros_like(rest)
    for _ in range(3):
        ids.append(torch.cdist(rest, table).argmin(1))
        rest, total = rest - table[ids[-1]], total + table[ids[-1]]
    codes = model.encode_codes(x)
    assert codes.shape == (1, 6, 10, 3)
    assert torch.equal(codes.view(60, 3), torch.stack(ids, -1))
    vectors = model.quantize.decode(codes).flatten(2)[0].T
    assert torch.allclose(vectors, total, atol=1e-6)


def test_gumbel_says_so() -> None:
    tensors, said = sample()
    said["model"]["target"] += "Gumbel"
    assert plan(Foreign(tensors, hoisted(said), "vit.ckpt")).notes[-1] == (
        "The source draws ids at random (Gumbel), even when it evaluates; here the likeliest is "
        "taken, and training goes on with nearest codes."
    )


def test_euclidean_codes() -> None:
    assert "use_cosine_sim" not in planned(use_norm=False).settings["quantizer_args"]


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    del tensors["pre_quant.weight"]
    assert not recognises(tensors)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"encoder": {"heads": 5}},
            "the attention of the encoder in vit.ckpt is 192 wide, which is no multiple of heads=5",
        ),
        (
            {"encoder": {"heads": 2}},
            "heads of attention are equally wide in the encoder and the decoder; got 96 and 64",
        ),
        (
            {"quantizer": {"use_residual": True, "num_quantizers": 2}},
            "vit.ckpt quantizes what is left over by direction (use_residual with use_norm), which "
            "no quantizer of vqtok does",
        ),
        (
            {"quantizer": {"use_residual": True, "use_norm": False}},
            "vit.ckpt does not tell num_quantizers, how many codes a token has: pass the YAML or "
            "JSON that it was trained with as config, or num_quantizers itself",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message


def test_heads_are_asked_for() -> None:
    tensors, _ = sample()
    for key in [key for key in tensors if "to_qkv" in key]:
        tensors[key] = tensors[key][:90]
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {}, "vit.ckpt"))
    assert str(error.value) == (
        "vit.ckpt does not tell heads, into how many the attention of the encoder is cut: pass the "
        "YAML or JSON that it was trained with as config, or heads itself"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder.en_pos_embedding": torch.ones(1, 60, 24)},
            "the positions in vit.ckpt are not the sines and cosines that ViT-VQGAN has",
        ),
        (
            {"decoder.to_pixel.1.weight": torch.ones(16, 3, 8, 8)},
            "the patches in vit.ckpt are not squares of one size; got [4, 8]",
        ),
        (
            {"encoder.extra": torch.ones(1)},
            "vit.ckpt holds 'encoder.extra', which is no key of its family",
        ),
        ({"post_quant.weight": None}, "vit.ckpt lacks 'post_quant.weight'"),
        (
            {"decoder.transformer.layers.0.0.fn.to_qkv.weight": None},
            "vit.ckpt lacks 'decoder.transformer.layers.0.0.fn.to_qkv.weight'",
        ),
    ],
)
def test_files_that_cannot_be(changes: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(LoadError) as error:
        planned(changes)
    assert str(error.value) == message


def test_another_size_than_the_other_side() -> None:
    tensors, _ = sample()
    there = tensors["decoder.de_pos_embedding"]
    with pytest.raises(LoadError) as error:
        planned({"decoder.de_pos_embedding": there[:, :10]})
    assert str(error.value) == "the encoder and the decoder in vit.ckpt have unlike positions"


@torch.no_grad()
def test_from_a_file(tmp_path: Path) -> None:
    """As Lightning writes it, its YAML beside it."""
    tensors, said = sample()
    file = tmp_path / "vit.ckpt"
    torch.save({"state_dict": tensors, "epoch": 3, "global_step": 9}, file)
    (tmp_path / "vit.yaml").write_text(yaml.safe_dump(said))
    found = build(file)
    assert found.family == "enhancing_vit"
    x = torch.randint(0, 256, (1, 3, 24, 40), dtype=torch.uint8)
    codes = found.model.encode_codes(x)
    assert len(codes.unique()) >= 10
    again = found.model.encode_codes(found.model.decode_codes(codes))
    assert again.shape == codes.shape == (1, 6, 10)
