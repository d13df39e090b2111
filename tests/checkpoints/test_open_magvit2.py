from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import filled, pixels
from checkpoints.samples.open_magvit2 import golden, loss_tensors, sample, weights
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.open_magvit2 import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

ORACLES = os.environ.get("VQTOK_ORACLES")


def planned(changes: dict[str, Tensor | None] | None = None, **settings: Any) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample()
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**hoisted(said), **settings}, "magvit.ckpt"))


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    model, theirs = built(planned()), golden()
    x = pixels(2, 3, 16, 24)
    latents = model.encode(x).latents
    # Our first dimension is the highest bit, theirs the lowest.
    assert agree(latents.flip(1), theirs["latents"])
    codes = model.encode_codes(x)
    assert codes.shape == (2, 4, 6)
    assert same_ids(codes, theirs["codes"])
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), made.clamp(-1, 1))


def test_the_losses_of_codes() -> None:
    ours, theirs = built(planned()).train().quantize, golden()
    z = (theirs["latents"] / 50).requires_grad_()
    losses = ours(z).losses
    torch.testing.assert_close(losses["commit"], theirs["commit"])
    sure = built(planned(batch_maximization_weight=0.0)).train().quantize(z).losses["entropy"]
    torch.testing.assert_close(sure, theirs["unsure"], rtol=1e-3, atol=0)
    sure.backward()
    torch.testing.assert_close(z.grad, theirs["grad"], rtol=1e-2, atol=1e-4)
    even = (sure - losses["entropy"]).detach()
    assert theirs["even"] <= even <= 1.1 * theirs["even"]  # each bit by itself: a bound from above


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "magvit2"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 2,
        "latent_channels": 6,
        "norm_num_groups": 32,
        "num_vq_embeddings": 64,
        "quantizer": "lfq",
        "quantizer_args": {
            "commitment_weight": 0.25,
            "entropy_loss_weight": 0.1,
            "diversity_gamma": 1.0,
            "inv_temperature": 100.0,
        },
        "estimator": "ste",
        "sample_size": 256,
    }
    assert found.preprocess == Preprocess.preset("torchvision", 256, 4)
    assert set(found.discriminator) == {
        *(f"blocks.0.0.{part}" for part in ("weight", "bias")),
        "blocks.1.0.weight",
        *(f"blocks.1.1.{part}" for part in ("weight", "bias")),
        *(f"blocks.2.{part}" for part in ("weight", "bias")),
    }
    averages = [key for key in sample()[0] if key.startswith("model_ema.")]
    assert found.dropped == {
        **dict.fromkeys(averages, "a running mean, taken in place of the weight itself"),
        "model_ema.decay": "a number that running means are taken with",
        "model_ema.num_updates": "a number that running means are taken with",
        "loss.perceptual_loss.lin0.model.1.weight": "LPIPS' network, which training brings itself",
    }
    assert found.notes == (
        "Weights are the running means (model_ema), with which the source evaluates.",
        "The source's first dimension is the lowest bit of an id, and ours the highest: ids are "
        "the source's, and dimensions of latents are in the opposite order.",
        "In training the mean code's entropy is that of each bit by itself, an upper bound on the "
        "joint one of the source.",
    )


def test_the_discriminator_is_not_the_running_mean_of_one() -> None:
    name = "loss.discriminator.main.0.weight"
    mean = {f"model_ema.{name.replace('.', '')}": loss_tensors()[name] + 1}
    found = planned(dict(mean))
    assert torch.equal(found.discriminator["blocks.0.0.weight"], loss_tensors()[name])
    assert found.dropped[next(iter(mean))] == "a running mean of a part of the loss"


def test_without_running_means_and_settings() -> None:
    found = plan(Foreign(weights(), {}, "magvit.ckpt"))
    assert found.settings == planned().settings
    with_means = planned().weights
    assert all(torch.equal(tensor, with_means[key]) for key, tensor in found.weights.items())
    assert found.discriminator == {} and found.dropped == {}
    assert found.notes[-2:] == (
        "Nothing tells the side of the pictures it was trained on: 256 is taken, which only the "
        "default crop depends on.",
        "Nothing tells how it was trained: codebook_weight=0.1, commit_weight=0.25, "
        "sample_minimization_weight=1.0 and batch_maximization_weight=1.0, as of the published "
        "ones. Training alone depends on that.",
    )


def test_settings_of_its_training() -> None:
    loss = {"params": {"codebook_weight": 0.2, "commit_weight": 0.5}}
    found = planned(lossconfig=loss, sample_minimization_weight=2.0, batch_maximization_weight=3.0)
    assert found.settings["quantizer_args"] == {
        "commitment_weight": 0.5,
        "entropy_loss_weight": 0.4,
        "diversity_gamma": 1.5,
        "inv_temperature": 100.0,
    }
    assert not [note for note in found.notes if "Nothing tells" in note]
    # Where a YAML leaves them to the source's own defaults, these count.
    args = planned(lossconfig={"params": {"disc_weight": 0.8}}).settings["quantizer_args"]
    assert (args["entropy_loss_weight"], args["commitment_weight"]) == (1.0, 0.25)


def with_loss(**params: Any) -> dict[str, Any]:
    return {"lossconfig": {"params": params}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sample_minimization_weight": 0.0},
            "sample_minimization_weight is a number above 0; the settings of the checkpoint say "
            "0.0",
        ),
        (
            with_loss(codebook_weight=None),
            "codebook_weight is a number of at least 0; the settings of the checkpoint say None",
        ),
        (
            with_loss(commit_weight="much"),
            "commit_weight is a number of at least 0; the settings of the checkpoint say 'much'",
        ),
        (
            {"data": {"init_args": {"train": {"params": {"config": {"size": "big"}}}}}},
            "size is a whole number of at least 1; the settings of the checkpoint say 'big'",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "said", "shown"),
    [("embed_dim", 36, 6), ("n_embed", 128, 64), ("z_channels", 18, 6), ("num_res_blocks", 4, 2)],
)
def test_settings_of_another_checkpoint(name: str, said: int, shown: int) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**{name: said})
    assert str(error.value) == (
        f"the settings say {name}={said}, and the shapes in magvit.ckpt {name}={shown}: they "
        "belong to another checkpoint"
    )


def test_another_discriminator_is_dropped() -> None:
    found = planned({"loss.discriminator.main.3.loc": torch.zeros(1)})
    assert found.discriminator == {}
    reason = "a discriminator of a kind that training has not"
    judge = [key for key in loss_tensors() if key.startswith("loss.discriminator.")]
    assert all(found.dropped[key] == reason for key in judge)


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    del tensors["decoder.adaptive.0.gamma.weight"]
    assert not recognises(tensors)


def test_the_model_of_clips_is_refused() -> None:
    tensors, _ = sample()
    tensors["encoder.conv_in.conv_1.weight"] = tensors.pop("encoder.conv_in.weight")[..., None]
    assert recognises(tensors)
    with pytest.raises(LoadError) as error:
        plan(Foreign(tensors, {}, "magvit.ckpt"))
    assert str(error.value) == (
        "magvit.ckpt is Open-MAGVIT2's model of clips, whose networks vqtok does not have; it "
        "reads those of pictures"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.down.0.block.0.conv1.weight": None}, "{0} lacks {1!r}"),
        ({"decoder.conv_out.weight": None}, "{0} lacks {1!r}"),
        (
            {"decoder.up.0.block.0.temb_proj.weight": torch.ones(1)},
            "{0} holds {1!r}, which is no key of its family",
        ),
        (
            {"encoder.conv_in.weight": torch.ones(16, 3, 3, 3)},
            "the first convolution in {0} is 16 wide and the blocks after it 32; they are equally "
            "wide where ch_mult begins with 1",
        ),
    ],
)
def test_weights_that_cannot_be(changes: dict[str, Tensor | None], message: str) -> None:
    tensors = {**weights(), **changes}
    left = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    with pytest.raises(LoadError) as error:
        plan(Foreign(left, {}, "magvit.ckpt"))
    assert str(error.value) == message.format("magvit.ckpt", next(iter(changes)))


@torch.no_grad()
def test_from_a_published_file(tmp_path: Path) -> None:
    tensors, said = sample()
    state = {"state_dict": tensors, "epoch": 3, "global_step": 7, "optimizer_states": []}
    torch.save(state, tmp_path / "imagenet_256_L.ckpt")
    (tmp_path / "imagenet_256_L.yaml").write_text(yaml.safe_dump(said))
    made = build(tmp_path / "imagenet_256_L.ckpt")
    assert made.family == "open_magvit2" and made.report.licence.startswith("Apache-2.0")
    assert made.preprocess.size == 256 and len(made.discriminator) == 7
    x = pixels(2, 3, 16, 24)
    codes = made.model.encode_codes(x)
    assert same_ids(codes, golden()["codes"])
    again = made.model.encode_codes(made.model.decode_codes(codes))
    assert again.shape == codes.shape


@pytest.mark.slow
@pytest.mark.skipif(ORACLES is None, reason="VQTOK_ORACLES names no environment of oracles")
@torch.no_grad()
def test_the_package_computes_the_same() -> None:
    """open-magvit2 1.1, installed without its dependencies anywhere in the oracles' folder."""
    networks = module("diffusionmodules/improved_model.py")
    quantizers = module("vqvae/lookup_free_quantize.py")
    settings = {"ch": 32, "ch_mult": (1, 2, 2, 3), "num_res_blocks": 3, "z_channels": 10}
    more = {"in_channels": 3, "out_ch": 3, "resolution": 128}
    theirs = torch.nn.Module()
    theirs.encoder = networks.Encoder(**settings, **more)
    theirs.decoder = networks.Decoder(**settings, **more)
    made = filled({key: tuple(t.shape) for key, t in theirs.state_dict().items()}, seed=3)
    theirs.load_state_dict(made)
    ours = built(plan(Foreign(made, {}, "magvit.ckpt")))
    x = pixels(3, 3, 48, 80)
    latents = theirs.encoder(x)
    quantized, _, codes = quantizers.LFQ(dim=10, codebook_size=1024).eval()(latents)
    assert agree(ours.encode(x).latents.flip(1), latents)
    assert same_ids(ours.encode_codes(x), codes)
    assert agree(ours.decode_codes(ours.encode_codes(x)), theirs.decoder(quantized).clamp(-1, 1))


def module(name: str) -> Any:
    """A file of the package by itself: the package around it imports Lightning."""
    where = f"open_magvit2/taming/modules/{name}"
    found = next(iter(sorted(Path(str(ORACLES)).rglob(where))), None)
    if found is None:
        pytest.skip("open-magvit2 is not in the environment of oracles")
    spec = importlib.util.spec_from_file_location(found.stem, found)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
