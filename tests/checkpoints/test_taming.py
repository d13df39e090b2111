from __future__ import annotations

from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import taming as samples
from torch import Tensor

from vqtok.autoencoders import AutoencoderVQ, AutoencoderVQViT
from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.taming import plan, recognises, to_taming
from vqtok.checkpoints.taming_parts import kind_of
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

SIZE = (24, 16)
SETTINGS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (32, 32),
}


def planned(tensors: dict[str, Tensor] | None = None, **settings: Any) -> Plan:
    """The sample with other tensors as well, and other settings."""
    found, said = samples.sample()
    return plan(Foreign(found | (tensors or {}), {**hoisted(said), **settings}, "last.ckpt"))


@torch.no_grad()
def test_it_computes_what_taming_does() -> None:
    model, theirs = built(planned()), samples.golden()
    x = pixels(1, 3, *SIZE)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (1, 12, 8)
    assert same_ids(codes, theirs["codes"])
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    quantized = model.quantize(latents)
    assert torch.allclose(model.quantize.total_loss(quantized.losses), theirs["loss"])
    # There and back again.
    seen = model.decode_codes(codes)
    assert torch.equal(seen, made.clamp(-1, 1))
    assert model.encode_codes(seen).shape == codes.shape


def test_the_plan() -> None:
    found = planned()
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        "block_out_channels": (32, 64),
        "layers_per_block": 2,
        "latent_channels": 32,
        "vq_embed_dim": 32,
        "num_vq_embeddings": 64,
        "norm_num_groups": 32,
        "mid_block_add_attention": True,
        "sample_size": 16,
        **TRAINING,
    }
    assert found.preprocess == Preprocess.preset("taming", size=16, stride=2)
    assert found.notes == ()
    name = "loss.perceptual_loss.lin0.model.1.weight"
    assert found.dropped == {name: "LPIPS' network, which training brings itself"}


def test_without_settings_the_crop_is_a_guess() -> None:
    found = plan(Foreign(samples.sample()[0], {}, "last.ckpt"))
    assert found.settings == planned().settings | {"sample_size": 256}
    assert found.preprocess == Preprocess.preset("taming", size=256, stride=2)
    assert found.notes == (
        "The file does not tell the side of the pictures it was trained on: 256 is taken, which "
        "only the default crop depends on; resolution in config sets it.",
    )


def test_the_weight_of_the_codebook_s_loss() -> None:
    """One for both its halves, of which legacy beta weighs that of the codebook."""
    ours = [
        built(planned(lossconfig={"params": {"codebook_weight": weight}})).train().quantize
        for weight in (1.0, "0.5")
    ]
    z = pixels(1, 32, 8, 8).requires_grad_()
    whole, half = (one.total_loss(one(z).losses) for one in ours)
    assert torch.allclose(half, whole / 2)
    (whole + half).backward()
    grads = [one.embedding.weight.grad for one in ours]
    assert torch.allclose(grads[1], grads[0] / 2, atol=1e-7) and grads[0].abs().max() > 0
    assert planned(lossconfig={"params": {"codebook_weight": 1.0}}).settings == planned().settings


def test_other_ids_of_a_subset() -> None:
    used = {"quantize.used": torch.arange(40)}
    found = planned(used)
    assert found.dropped["quantize.used"] == "ids are those of the whole codebook"
    assert found.notes == (
        "The source maps its ids onto the 40 that quantize.used lists, and unknown ones onto "
        "random ones; ids here are those before that: the entries of quantize.used.",
    )
    assert found.weights.keys() == planned().weights.keys()
    assert kind_of(samples.sample()[0] | used) == "taming"


def test_what_is_no_part_of_it_is_said() -> None:
    more = {"colorize": torch.ones(1), "loss.logvar": torch.ones(1), "step": torch.ones(1)}
    dropped = planned(more).dropped
    assert {key: dropped[key] for key in more} == {
        "colorize": "colours for showing segmentation maps",
        "loss.logvar": "a part of the loss",
        "step": "no part of the autoencoder",
    }
    strange = {"loss.discriminator.main.0.loc": torch.ones(1)}
    found = planned(strange)
    assert not found.discriminator
    assert found.dropped["loss.discriminator.main.0.loc"] == (
        "a discriminator of a kind that training has not"
    )


def test_settings_of_another_checkpoint() -> None:
    for settings, message in (
        (
            {"n_embed": 1024},
            "the settings say n_embed=1024, and the shapes in last.ckpt n_embed=64",
        ),
        (
            {"ch_mult": (1, 1)},
            "the settings say ch_mult=(1, 1), and the shapes in last.ckpt ch_mult=[1, 2]",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            planned(**settings)
        assert str(error.value) == f"{message}: they belong to another checkpoint"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"double_z": True},
            "the settings of last.ckpt say double_z: that is a KL autoencoder, which has no codes",
        ),
        (
            {"attn_type": "linear"},
            "the settings of last.ckpt say attn_type 'linear'; known are 'vanilla' and 'none'",
        ),
        (
            {"resolution": "large"},
            "resolution is a whole number of at least 1; the settings of the checkpoint say "
            "'large'",
        ),
        (
            {"lossconfig": {"params": {"codebook_weight": None}}},
            "codebook_weight is a number of at least 0; the settings of the checkpoint say None",
        ),
        ({"resolution": 15}, "size=15 is not a multiple of the stride, 2"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message


def test_segmentation_maps() -> None:
    conv_in = {"encoder.conv_in.weight": torch.zeros(32, 183, 3, 3)}
    conv_out = {"decoder.conv_out.weight": torch.zeros(183, 32, 3, 3)}
    with pytest.raises(LoadError) as error:
        plan(Foreign(samples.sample()[0] | conv_in | conv_out, {}, "last.ckpt"))
    assert str(error.value) == (
        "last.ckpt is a model of 183 channels, for segmentation or depth maps; a tokenizer of "
        "pictures has 3"
    )


def test_a_file_that_lacks_its_codebook() -> None:
    tensors, _ = samples.sample()
    del tensors["quantize.embedding.weight"]
    with pytest.raises(LoadError) as error:
        plan(Foreign(tensors, {}, "last.ckpt"))
    assert str(error.value) == "the quantizer of last.ckpt lacks 'embedding.weight'"


def test_ibq_is_another_family() -> None:
    tensors, _ = samples.sample()
    assert recognises(tensors)
    assert kind_of(tensors | {"encoder.down.0.block.3.conv1.weight": torch.zeros(1)}) is None


# --- back ---------------------------------------------------------------------------------------


def test_back_to_taming() -> None:
    tensors, _ = samples.sample()
    back = to_taming(built(planned()))
    assert back.keys() == {key for key in tensors if not key.startswith("loss.")}
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in back.items())
    again = plan(Foreign(back, {}, "again"))
    assert all(torch.equal(t, again.weights[key]) for key, t in planned().weights.items())


@torch.no_grad()
def test_taming_s_own_modules_take_them() -> None:
    taming = pytest.importorskip(
        "taming.modules.diffusionmodules.model",
        reason="taming-transformers-rom1504 is not installed (dev.py setup does that)",
    )
    ours = built(planned())
    back = to_taming(ours)
    ddconfig = hoisted(samples.sample()[1])["ddconfig"]
    for name, kind in (("encoder", taming.Encoder), ("decoder", taming.Decoder)):
        theirs = kind(**ddconfig).eval()
        start = f"{name}."
        theirs.load_state_dict({k[8:]: t for k, t in back.items() if k.startswith(start)})
        x = pixels(1, 3 if name == "encoder" else 32, 8, 8)
        assert agree(getattr(ours, name)(x), theirs(x))


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        (
            {"quantizer": "lfq", "num_vq_embeddings": 8},
            "the quantizer is 'lfq', not 'vector' or 'gumbel'",
        ),
        (
            {"quantizer_args": {"use_cosine_sim": True}},
            "codes are compared by direction (use_cosine_sim)",
        ),
        (
            {"pixel_mean": (0, 0, 0), "pixel_std": (1, 1, 1)},
            "the networks take another pixel range than [-1, 1]",
        ),
        (
            {"pre_quant_norm": "layer"},
            "latents are normalised before quantization (pre_quant_norm)",
        ),
        (
            {"quant_conv_kernel": 3},
            "codes stand between larger convolutions than 1 x 1 (quant_conv_kernel)",
        ),
        ({"norm_num_groups": 16}, "norms have 16 groups, not 32 (norm_num_groups)"),
        ({"norm_type": "spatial"}, "the decoder's norms are 'spatial' ones (norm_type)"),
        ({"act_fn": "relu"}, "it activates by 'relu', not 'silu' (act_fn)"),
        ({"up_block_types": ()}, "it has no decoder (up_block_types)"),
        (
            {"up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")},
            "encoder and decoder attend at different levels (up_block_types)",
        ),
        (
            {
                "mid_block_add_attention": False,
                "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
                "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            },
            "it attends at a level and not in the middle (mid_block_add_attention)",
        ),
    ],
)
def test_what_taming_cannot_express(changes: dict[str, Any], obstacle: str) -> None:
    with pytest.raises(ConfigError) as error:
        to_taming(AutoencoderVQ(**{**SETTINGS, **changes}))
    assert str(error.value) == (f"taming-transformers' VQGAN cannot express this model: {obstacle}")


def test_a_model_of_another_kind() -> None:
    with pytest.raises(ConfigError) as error:
        to_taming(AutoencoderVQViT(sample_size=16, patch_size=8))
    assert str(error.value) == (
        "taming-transformers' VQGAN is a convolutional autoencoder of pictures; this model is an "
        "AutoencoderVQViT"
    )
