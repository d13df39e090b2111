from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.ibq import golden, sample, weights
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.ibq import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess


def planned(changes: dict[str, Tensor | None] | None = None, **settings: Any) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample()
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**hoisted(said), **settings}, "ibq.ckpt"))


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    model, theirs = built(planned()), golden()
    x = pixels(2, 3, 16, 16)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (2, 8, 8)
    assert same_ids(codes, theirs["codes"])
    near = torch.cdist(latents.movedim(1, -1).flatten(0, 2), theirs["table"]).argmin(1)
    assert not torch.equal(near, theirs["codes"])  # the highest product is not the nearest code
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), made.clamp(-1, 1))


def test_it_trains_as_the_reference_does() -> None:
    ours = built(planned(entropy_temperature=0.5)).train().quantize
    theirs = golden()
    z = theirs["latents"].clone().requires_grad_()
    out = ours(z)
    losses = out.losses
    quant = losses["double"] + losses["commit"] + 0.25 * losses["codebook"]
    torch.testing.assert_close(quant, theirs["loss"])
    torch.testing.assert_close(losses["entropy"], theirs["entropy"])
    torch.testing.assert_close(ours.total_loss(losses), theirs["loss"] + 0.05 * theirs["entropy"])
    weighed = (out.z * torch.linspace(-1, 1, out.z.numel()).view_as(out.z)).sum()
    (weighed + ours.total_loss(losses)).backward()
    torch.testing.assert_close(z.grad, theirs["grad"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours.embedding.weight.grad, theirs["table_grad"], rtol=1e-4, atol=1e-5
    )


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "cnn"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 8,
        "vq_embed_dim": 8,
        "block_out_channels": (32, 32),
        "layers_per_block": 4,
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "sample_size": 16,
        "num_vq_embeddings": 64,
        "quantizer": "ibq",
        "quantizer_args": {
            "commitment_weight": 1.0,
            "codebook_weight": 0.25,
            "double_weight": 1.0,
            "entropy_loss_weight": 0.05,
            "diversity_gamma": 1.0,
            "entropy_temperature": 0.01,
        },
        "estimator": None,
    }
    assert found.preprocess == Preprocess.preset("taming", size=16, stride=2)
    assert len(found.discriminator) == 7
    assert found.notes == (
        "Weights are the running means (model_ema), with which the source evaluates.",
    )


def test_settings_of_its_training() -> None:
    loss = {"params": {"quant_loss_weight": 2.0, "entropy_loss_weight": 0.1}}
    found = planned(
        lossconfig=loss,
        beta=0.5,
        entropy_temperature=0.1,
        sample_minimization_weight=2.0,
        batch_maximization_weight=1.0,
    )
    assert found.settings["quantizer_args"] == {
        "commitment_weight": 2.0,
        "codebook_weight": 1.0,
        "double_weight": 2.0,
        "entropy_loss_weight": 0.2,
        "diversity_gamma": 0.5,
        "entropy_temperature": 0.1,
    }
    assert not [note for note in found.notes if "Nothing tells" in note]
    params = {**loss["params"], "codebook_weight": 3.0}
    off = planned(use_entropy_loss=False, lossconfig={"params": params}).settings["quantizer_args"]
    assert (off["entropy_loss_weight"], off["commitment_weight"]) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"beta": None}, "a number of at least 0"),
        ({"entropy_temperature": 0}, "a number above 0"),
        ({"use_entropy_loss": "yes"}, "true or false"),
        ({"batch_maximization_weight": -1}, "a number of at least 0"),
        ({"resolution": 2.5}, "a whole number of at least 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], right: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    ((name, value),) = settings.items()
    assert str(error.value) == (f"{name} is {right}; the settings of the checkpoint say {value!r}")


def test_shapes_tell_what_no_settings_say() -> None:
    told, found = planned(), plan(Foreign(weights(), {}, "ibq.ckpt"))
    assert found.settings == {**told.settings, "sample_size": 256}
    assert found.notes[-1] == (
        "Nothing tells how it was trained: quant_loss_weight=1.0, entropy_loss_weight=0.05, "
        "use_entropy_loss=True, sample_minimization_weight=1.0, batch_maximization_weight=1.0, "
        "entropy_temperature=0.01 and beta=0.25, as of the published ones. Training alone depends "
        "on that."
    )
    assert all(torch.equal(tensor, told.weights[key]) for key, tensor in found.weights.items())


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    few = {
        key: t for key, t in tensors.items() if ".block.2." not in key and ".block.3." not in key
    }
    assert not recognises(few)  # as taming's VQGAN


def test_a_table_is_needed() -> None:
    tensors = weights()
    del tensors["quantize.embedding.weight"]
    with pytest.raises(LoadError) as error:
        plan(Foreign(tensors, {}, "ibq.ckpt"))
    assert str(error.value) == "the quantizer of ibq.ckpt lacks 'embedding.weight'"


@torch.no_grad()
def test_from_a_published_file(tmp_path: Path) -> None:
    tensors, said = sample()
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "imagenet256_16384.ckpt")
    (tmp_path / "imagenet256_16384.yaml").write_text(yaml.safe_dump(said))
    made = build(tmp_path / "imagenet256_16384.ckpt")
    assert made.family == "ibq" and made.preprocess.size == 16
    x = pixels(2, 3, 16, 16)
    codes = made.model.encode_codes(x)
    assert same_ids(codes, golden()["codes"])
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert again.shape == codes.shape
