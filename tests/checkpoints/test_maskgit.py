from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.maskgit import CODES, sample
from safetensors.torch import load_file
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.maskgit import plan, recognises
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess

GOLDEN = Path(__file__).resolve().parents[1] / "golden/maskgit.safetensors"


def planned(tensors: dict[str, Tensor] | None = None) -> Plan:
    return plan(Foreign(tensors or sample()[0], {}, "vqgan.bin"))


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    """See golden/maskgit.md. Theirs in [0, 1], ours in [-1, 1]."""
    model, theirs = built(planned()), load_file(GOLDEN)
    x = pixels(2, 3, 24, 16)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (2, 6, 4)
    assert same_ids(codes, theirs["codes"], at_least=20)
    ours = model.decode(latents).sample
    assert agree((ours + 1) / 2, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), ours.clamp(-1, 1))


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "maskgit"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "latent_channels": 8,
        "sample_size": 256,
        "num_vq_embeddings": CODES,
        "pixel_mean": (0.0, 0.0, 0.0),
        "pixel_std": (1.0, 1.0, 1.0),
        "quantizer": "vector",
        "estimator": "ste",
        "quantizer_args": {
            "codebook_update": "gradient",
            "commitment_weight": 0.25,
            "dead_codes": "off",
            "start": "uniform",
        },
    }
    assert found.preprocess == Preprocess(
        policy="torchvision", size=256, stride=4, resize="pillow-bicubic"
    )
    assert not found.dropped and not found.discriminator and len(found.notes) == 2


@torch.no_grad()
def test_training_goes_on_with_the_losses_of_the_source() -> None:
    model = built(planned()).train()
    z = torch.randn(2, 8, 4, 4)
    gap = (z - model.quantize.decode(model.quantize.encode(z))).square().mean()
    out = model.quantize(z)
    assert torch.allclose(model.quantize.total_loss(out.losses), 1.25 * gap)


@torch.no_grad()
def test_a_published_file_becomes_a_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "maskgit-vqgan-imagenet-f16-256.bin"
    torch.save(sample()[0], file)
    made = build(file)
    assert made.family == "maskgit"
    x = pixels(1, 3, 8, 12)
    codes = made.model.encode_codes(x)
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert codes.shape == again.shape == (1, 2, 3)


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    assert not recognises({**tensors, "encoder.conv_in.bias": torch.zeros(32)})
    del tensors["decoder.up.1.upsample_conv.weight"]
    assert not recognises(tensors)


def without(*starts: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in sample()[0].items() if not key.startswith(starts)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (without("encoder.conv_out.weight"), "vqgan.bin lacks 'encoder.conv_out.weight'"),
        (
            without("decoder.up.2.block.0.conv2"),
            "vqgan.bin lacks 'decoder.up.2.block.0.conv2.weight'",
        ),
        (
            without("decoder.up.2."),
            "vqgan.bin holds an encoder of 3 levels and a decoder of 2",
        ),
        (
            {**sample()[0], "encoder.mid.attn.q.weight": torch.zeros(1)},
            "vqgan.bin holds 'encoder.mid.attn.q.weight', which is no key of its family",
        ),
    ],
)
def test_what_cannot_be(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(LoadError) as error:
        planned(tensors)
    assert str(error.value) == message


def test_a_block_that_lacks() -> None:
    """Of the encoder, whose sizes are those of the decoder."""
    with pytest.raises(LoadError) as error:
        build(Foreign(without("encoder.down.1.block.1"), {}, "vqgan.bin"))
    assert str(error.value) == (
        "vqgan.bin lacks 6 of the model's 116 tensors, among them "
        "'encoder.down_blocks.1.resnets.1.norm1.weight' of shape 32"
    )


@pytest.mark.parametrize("shape", [(), (3,), (0, 3)])
@pytest.mark.parametrize(
    ("key", "axes"),
    [
        ("encoder.conv_in.weight", 4),
        ("encoder.conv_out.weight", 4),
        ("decoder.conv_out.weight", 4),
        ("decoder.up.1.block.0.conv2.weight", 4),
        ("quantize.embedding.weight", 2),
    ],
)
def test_shapes_that_tell_nothing(key: str, axes: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(LoadError) as error:
        plan(Foreign({**sample()[0], key: torch.ones(shape)}, {}, "x.bin"))
    assert str(error.value) == (
        f"x.bin holds {key!r} of shape {shape}; it has {axes} axes, each at least 1"
    )
