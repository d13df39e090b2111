from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import filled, pixels
from checkpoints.samples.llamagen import golden, sample
from torch import Tensor
from torch.nn import functional as F

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.llamagen import is_layout, plan
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess


def planned(more: dict[str, Tensor] | None = None, **settings: Any) -> Plan:
    tensors, said = sample()
    return plan(Foreign({**tensors, **(more or {})}, {**said, **settings}, "vq.pt"))


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    model, theirs = built(planned()), golden()
    x = pixels(2, 3, 24, 32)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (2, 6, 8)
    assert same_ids(codes, theirs["codes"])
    assert agree(model.decode(latents).sample, theirs["pixels"])
    assert agree(model.decode_codes(codes), theirs["pixels"].clamp(-1, 1))


@torch.no_grad()
def test_the_decoder_sees_codes_of_length_1() -> None:
    model = built(planned())
    vectors = model.quantize.decode(torch.arange(48)[None])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(1, 48))
    assert not torch.allclose(golden()["table"].norm(dim=1), torch.ones(48), atol=0.1)


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "cnn"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 6,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 2 + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 2,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "sample_size": 256,
        "num_vq_embeddings": 48,
        "vq_embed_dim": 4,
        "quantizer": "vector",
        "quantizer_args": {
            "codebook_update": "gradient",
            "commitment_weight": 0.25,
            "dead_codes": "off",
            "start": "uniform",
            "use_cosine_sim": True,
        },
        "estimator": "ste",
    }
    assert found.preprocess == Preprocess.preset("adm", 256, 4)
    assert found.dropped == {
        "quantize.codebook_used": "a record of recent ids, for a meter in training"
    }
    assert found.discriminator == {}
    assert found.notes == (
        "Nothing tells codebook_l2_norm=True, as the source has it by default. Ids depend on that.",
        "Codes and latents are compared by direction; the decoder sees codes of length 1.",
    )
    assert planned(codebook_l2_norm=True).notes == found.notes[1:]


def test_settings_of_its_training() -> None:
    found = planned(commit_loss_beta=0.5, entropy_loss_ratio=0.1, codebook_l2_norm=False)
    args = found.settings["quantizer_args"]
    assert args["commitment_weight"] == 0.5
    assert "use_cosine_sim" not in args
    assert found.notes == (
        "It was trained with an entropy loss of weight 0.1. That is no setting of the quantizer "
        "here but one of training: loss.entropy.",
    )


def test_pictures_are_of_the_size_that_it_was_trained_on() -> None:
    found = planned(image_size=512)
    assert found.preprocess == Preprocess.preset("adm", 512, 4)
    assert found.settings["sample_size"] == 512
    with pytest.raises(ConfigError) as error:
        planned(image_size="large")
    assert str(error.value) == (
        "image_size is a whole number of at least 1; the settings of the checkpoint say 'large'"
    )


@torch.no_grad()
def test_the_loss_is_the_sources() -> None:
    model = built(planned()).train()
    z = torch.randn(2, 4, 4, 4)
    e = F.normalize(z, dim=1)
    gap = (e - model.quantize.decode(model.quantize.encode(z))).square().mean()
    out = model.quantize(z)
    assert torch.allclose(model.quantize.total_loss(out.losses), 1.25 * gap)


def judge() -> dict[str, Tensor]:
    """A PatchGAN of two layers as LlamaGen's training writes it."""
    kernels = {0: (4, 3), 2: (8, 4), 5: (16, 8), 8: (1, 16)}
    shapes: dict[str, tuple[int, ...]] = {
        f"main.{number}.weight": (*sides, 4, 4) for number, sides in kernels.items()
    }
    shapes |= {"main.0.bias": (4,), "main.8.bias": (1,)}
    for number, width in ((3, 8), (6, 16)):
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"main.{number}.{name}"] = (width,)
        shapes[f"main.{number}.num_batches_tracked"] = ()
    return filled(shapes)


def test_the_discriminator_of_a_training_checkpoint() -> None:
    there = judge()
    found = planned({f"discriminator.{key}": tensor for key, tensor in there.items()})
    assert len(found.discriminator) == 4 + 2 * 3  # all but running statistics
    assert torch.equal(found.discriminator["blocks.2.0.weight"], there["main.5.weight"])
    assert list(found.dropped) == ["quantize.codebook_used"]


def test_a_discriminator_of_another_kind() -> None:
    found = planned({"discriminator.convs.0.0.weight": torch.ones(1)})
    assert found.discriminator == {}
    assert found.dropped["discriminator.convs.0.0.weight"] == (
        "a discriminator of a kind that training has not"
    )


def test_recognised() -> None:
    tensors, _ = sample()
    assert is_layout(tensors)
    del tensors["quant_conv.bias"]
    assert not is_layout(tensors)


def test_a_key_of_something_else() -> None:
    with pytest.raises(LoadError) as error:
        planned({"encoder.conv_blocks.0.other": torch.ones(1)})
    assert str(error.value) == (
        "vq.pt holds 'encoder.conv_blocks.0.other', which is no key of its family"
    )


@torch.no_grad()
@pytest.mark.parametrize("container", ["model", "ema"])
def test_from_a_file(tmp_path: Path, container: str) -> None:
    """A release has one container, a training checkpoint both, its discriminator and arguments."""
    tensors, _ = sample()
    whole: dict[str, Any] = {container: tensors}
    if container == "ema":
        worse = {key: tensor + 1 for key, tensor in tensors.items()}
        arguments = Namespace(vq_model="VQ-16", commit_loss_beta=0.5, entropy_loss_ratio=0.0)
        whole |= {"model": worse, "discriminator": judge(), "steps": 7, "args": arguments}
    torch.save(whole, tmp_path / "vq_ds16_c2i.pt")
    found = build(tmp_path / "vq_ds16_c2i.pt")
    assert found.family == "llamagen"
    commit = found.model.config.quantizer_args["commitment_weight"]
    assert commit == (0.5 if container == "ema" else 0.25)
    assert bool(found.discriminator) == (container == "ema")
    codes = found.model.encode_codes(pixels(2, 3, 24, 32))
    assert same_ids(codes, golden()["codes"])
    again = found.model.encode_codes(found.model.decode_codes(codes))
    assert again.shape == codes.shape
