from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.bsq_vit import NAMES, golden, sample
from torch import Tensor
from torch.nn import functional as F

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.bsq_vit import plan, recognises
from vqtok.checkpoints.building import build
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

each = pytest.mark.parametrize("name", NAMES)


def planned(
    changes: dict[str, Tensor | None] | None = None, name: str = "bsq_vit", **settings: Any
) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample(name)
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**hoisted(said), **settings}, "bsq.pt"))


def one_id(codes: Tensor, bits: int) -> Tensor:
    """Codes (..., Q) of so many bits each -> the one id of the source."""
    total = torch.zeros_like(codes[..., 0])
    for part in codes.unbind(-1):
        total = (total << bits) + part
    return total


@each
@torch.no_grad()
def test_it_computes_what_the_reference_does(name: str) -> None:
    model, theirs = built(planned(name=name)), golden(name)
    x = pixels(2, 3, 16, 16)
    latents = model.encode(x).latents
    assert agree(latents.flatten(2).movedim(1, 2), theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == ((2, 4, 4) if name == "bsq_vit" else (2, 4, 4, 2))
    assert same_ids(codes if codes.ndim == 3 else one_id(codes, 12), theirs["codes"])
    vectors = model.quantize.decode(codes).flatten(2).movedim(1, 2)
    assert torch.allclose(vectors, theirs["quantized"])
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), made.clamp(-1, 1))


@each
def test_it_trains_as_the_reference_does(name: str) -> None:
    ours, theirs = built(planned(name=name)).train().quantize, golden(name)
    rows = theirs["latents"].clone().requires_grad_()
    out = ours(rows.movedim(1, 2).unflatten(2, (4, 4)))
    weighed = ours.total_loss(out.losses)
    torch.testing.assert_close(weighed, 0.1 * theirs["loss"], rtol=1e-4, atol=1e-6)
    tokens = out.z.flatten(2).movedim(1, 2)
    seen = (tokens * torch.linspace(-1, 1, tokens.numel()).view_as(tokens)).sum()
    (seen + weighed).backward()
    torch.testing.assert_close(rows.grad, theirs["grad"], rtol=1e-3, atol=1e-5)


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "bsq_vit"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": 4,
        "latent_channels": 24,
        "depth": 2,
        "heads": 3,
        "mlp_dim": 48,
        "output_dim": 3072,
        "sample_size": 16,
        "vq_embed_dim": 6,
        "num_vq_embeddings": 64,
        "quantizer": "bsq",
        "quantizer_args": {
            "group_size": 3,
            "commitment_weight": pytest.approx(0.15),
            "entropy_loss_weight": pytest.approx(0.1 / 3),
            "diversity_gamma": 1.0,
            "inv_temperature": 3.0,
        },
        "estimator": "ste",
    }
    assert found.preprocess == Preprocess(
        policy="torchvision", size=16, stride=4, resize="pillow-lanczos"
    )
    assert found.dropped == {
        "quantize.basis": "places of bits, which are computed",
        "quantize.group_basis": "places of bits, which are computed",
    }
    assert found.discriminator == {}
    assert found.notes == (
        "The source knows pictures of one size alone; positions in others are interpolated.",
        "The source weighs the entropy loss more in the first steps of its training "
        "(codebook_rampup_multiplier); here its weight is that of later on.",
    )


def test_many_bits_are_several_ids() -> None:
    found = planned(name="bsq_vit_wide")
    assert found.settings["num_vq_embeddings"] == 1 << 12
    assert found.settings["vq_embed_dim"] == 24
    assert found.notes[1] == (
        "A code of 24 bits is 2 ids of 12, the first of them the highest bits of the source's one."
    )


def test_ids_that_the_source_rounds() -> None:
    bits = 36
    wide = {
        "quantize.basis": torch.ones(bits),
        "quant_embed.weight": torch.ones(bits, 24),
        "quant_embed.bias": torch.ones(bits),
        "post_quant_embed.weight": torch.ones(24, bits),
    }
    found = planned(dict(wide), "bsq_vit_wide", embed_dim=bits)
    assert found.notes[1:3] == (
        "A code of 36 bits is 2 ids of 18, the first of them the highest bits of the source's one.",
        "The source adds up its id in float32, which rounds those above 2^24: it does not tell all "
        "bits of a code, and ids here do.",
    )


def test_the_filter_that_it_is_measured_with() -> None:
    for said, resize in (({"interpolation": "bilinear"}, "bilinear"), ({"fid": {}}, "bilinear")):
        assert planned(evaluation=said).preprocess.resize == f"pillow-{resize}"
    assert planned(evaluation={"interpolation": "lanczos"}).preprocess.resize == "pillow-lanczos"


@torch.no_grad()
def test_networks_that_see_pixels_from_0_to_1() -> None:
    """Theirs are from 0 to 1, ours from -1 to 1: pixels are shifted on both ways."""
    found = planned(data={"zero_mean": False})
    assert (found.settings["pixel_mean"], found.settings["pixel_std"]) == ((0.0,) * 3, (1.0,) * 3)
    signed, model, x = built(planned()), built(found), pixels(1, 3, 16, 16)
    latents = model.encode(x).latents
    assert torch.allclose(latents, signed.encode((x + 1) / 2).latents)
    assert torch.allclose(model.decode(latents).sample, 2 * signed.decode(latents).sample - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mask_type": "causal"},
            "the settings of bsq.pt say mask_type 'causal'; vqtok reads models whose patches "
            "attend to all others (mask_type none)",
        ),
        (
            {"dvitconfig": {"mask_type": "block-causal"}},
            "the settings of bsq.pt say mask_type 'block-causal'; vqtok reads models whose patches "
            "attend to all others (mask_type none)",
        ),
        (
            {"dvitconfig": {"heads": 6}},
            "the settings of bsq.pt say heads=3 of the encoder and 6 of the decoder (dvitconfig); "
            "vqtok reads models whose two transformers are alike",
        ),
        (
            {"heads": 5},
            "the attention in bsq.pt is 24 wide, which is no multiple of heads=5",
        ),
        ({"heads": 0}, "heads is a whole number of at least 1; {} 0"),
        ({"heads": "a few"}, "heads is a whole number of at least 1; {} 'a few'"),
        ({"inv_temperature": 0}, "inv_temperature is a number above 0; {} 0"),
        ({"zeta": None}, "zeta is a number of at least 0; {} None"),
        ({"gamma0": 0}, "gamma0 is a number above 0; {} 0"),
        ({"l2_norm": "no"}, "l2_norm is true or false; {} 'no'"),
        (
            {"loss": {"params": {"codebook_weight": "x"}}},
            "codebook_weight is a number of at least 0; {} 'x'",
        ),
        ({"data": {"zero_mean": 2}}, "zero_mean is true or false; {} 2"),
        (
            {"evaluation": {"interpolation": "nearest"}},
            "interpolation is one of bilinear, lanczos; {} 'nearest'",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message.format("the settings of the checkpoint say")


@pytest.mark.parametrize(
    ("name", "said", "shown"),
    [
        ("embed_dim", 36, 6),
        ("embed_group_size", 9, 3),
        ("image_size", 256, 16),
        ("patch_size", 8, 4),
        ("width", 768, 24),
        ("layers", 12, 2),
    ],
)
def test_settings_of_another_checkpoint(name: str, said: int, shown: int) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**{name: said})
    assert str(error.value) == (
        f"the settings say {name}={said}, and the shapes in bsq.pt {name}={shown}: they belong to "
        "another checkpoint"
    )


def test_without_settings() -> None:
    tensors, _ = sample()
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {}, "bsq.pt"))
    assert str(error.value) == (
        "bsq.pt does not tell heads, into how many attention is cut: pass the YAML or JSON that it "
        "was trained with as config, or heads itself"
    )
    found = plan(Foreign(tensors, {"heads": 3}, "bsq.pt"))
    assert found.settings["heads"] == 3
    assert found.notes[1:3] == (
        "Nothing tells the range of pixels (data.zero_mean): [-1, 1] is taken, that of all that "
        "were published.",
        "Nothing tells how it was trained: codebook_weight=0.1, codebook_rampup_steps=2000, "
        "beta=0.0, zeta=1.0, gamma0=1.0, gamma=1.0 and inv_temperature=1.0, as of the published "
        "ones. Training alone depends on that.",
    )


def test_heads_of_the_published_width() -> None:
    wide = {
        key: F.pad(tensor, (0, 40)) if key == "encoder.conv1.weight" else tensor
        for key, tensor in sample()[0].items()
    }
    wide["encoder.conv1.weight"] = torch.ones(128, 48)
    found = plan(Foreign(wide, {}, "bsq.pt"))
    assert found.settings["heads"] == 2
    assert "Nothing tells the heads of attention: 64 dimensions each are taken." in found.notes


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    del tensors["quantize.basis"]
    assert not recognises(tensors)


@pytest.mark.parametrize("name", ["l2_norm", "post_q_l2_norm"])
def test_vectors_off_the_sphere(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**{name: False})
    assert str(error.value) == (
        f"the settings of bsq.pt say {name}=False; vqtok reads models whose vectors and codes lie "
        "on the sphere"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder.temporal_positional_embedding": torch.ones(4, 24)},
            "bsq.pt is BSQ-ViT's model of clips, whose attention vqtok does not have; it reads "
            "those of pictures",
        ),
        ({"encoder.ln_pre.weight": None}, "bsq.pt lacks 'encoder.ln_pre.weight'"),
        ({"decoder.ffn.0.weight": None}, "bsq.pt lacks 'decoder.ffn.0.weight'"),
        (
            {"encoder.positional_embedding": torch.ones(15, 24)},
            "the pictures or patches in bsq.pt are not squares of 3 channels",
        ),
        (
            {"decoder.positional_embedding": torch.ones(9, 24)},
            "the encoder and the decoder in bsq.pt have unlike numbers of positions",
        ),
        (
            {"decoder.conv_out.weight": torch.ones(96, 3072)},
            "the decoder in bsq.pt puts out 96 numbers a patch of 48: those of a distribution "
            "(logit_laplace), which vqtok has not",
        ),
        (
            {"decoder.transformer.resblocks.1.ln_1.weight": None},
            "the transformers of the encoder and the decoder in bsq.pt are not of equal sizes "
            "(dvitconfig), as those that vqtok has are",
        ),
        (
            {
                f"{side}.transformer.resblocks.0.ls_1.gamma": torch.ones(24)
                for side in ("encoder", "decoder")
            },
            "bsq.pt holds 'encoder.transformer.resblocks.0.ls_1.gamma', which is no key of its "
            "family",
        ),
    ],
)
def test_weights_that_cannot_be(changes: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(LoadError) as error:
        planned(changes)
    assert str(error.value) == message


@each
@torch.no_grad()
def test_from_a_published_file(tmp_path: Path, name: str) -> None:
    tensors, said = sample(name)
    state = {
        "iter": 5,
        "state_dict": {f"module.{key}": torch.zeros_like(t) for key, t in tensors.items()},
        "ema_state_dict": {f"module.module.{key}": t for key, t in tensors.items()},
        "state_dict_discriminator": {"b4.conv.weight": torch.ones(3)},
        "scaler": {"scale": 1.0},
    }
    torch.save(state, tmp_path / "checkpoint.pt")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(said))
    made = build(tmp_path / "checkpoint.pt")
    assert made.family == "bsq_vit" and made.preprocess.size == 16
    x = pixels(2, 3, 16, 16)
    codes = made.model.encode_codes(x)
    assert same_ids(codes if codes.ndim == 3 else one_id(codes, 12), golden(name)["codes"])
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert again.shape == codes.shape
