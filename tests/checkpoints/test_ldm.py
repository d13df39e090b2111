from __future__ import annotations

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import taming
from checkpoints.samples.ldm import sample
from torch import Tensor

from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.ldm import plan
from vqtok.checkpoints.taming import to_taming
from vqtok.checkpoints.taming_parts import kind_of
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError

SCALING = (
    "scaling_factor is 1: latent diffusion scales no latents of a VQ first stage, and the .18215 "
    "that diffusers' VQModel has by default is that of a KL one."
)


def planned(tensors: dict[str, Tensor] | None = None) -> Plan:
    """The sample with other tensors as well."""
    found, said = sample()
    return plan(Foreign(found | (tensors or {}), hoisted(said), "model.ckpt"))


@torch.no_grad()
def test_it_computes_what_latent_diffusion_does() -> None:
    model, theirs = built(planned()), taming.golden("ldm")
    x = pixels(1, 3, 24, 16)
    # Before quantization, as VQModelInterface has them.
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert same_ids(codes, theirs["codes"])
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    assert torch.equal(model.decode_codes(codes), made.clamp(-1, 1))
    assert model.config.scaling_factor == 1


def test_the_plan() -> None:
    found = planned()
    assert not found.settings["mid_block_add_attention"]
    assert found.settings["num_vq_embeddings"] == 64
    assert found.settings["vq_embed_dim"] == 3
    assert TRAINING.items() <= found.settings.items()
    assert found.notes == (SCALING,)
    assert found.dropped == {}


def test_running_means_are_the_weights() -> None:
    tensors, _ = sample()
    means = {f"model_ema.{key.replace('.', '')}": t + 1 for key, t in tensors.items()}
    counters = {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    found, plain = planned(means | counters), planned()
    assert all(torch.equal(found.weights[key], t + 1) for key, t in plain.weights.items())
    assert found.notes == (
        "Weights are the running means (model_ema), with which the source evaluates.",
        SCALING,
    )
    taken = "a running mean, taken in place of the weight itself"
    number = "a number that running means are taken with"
    assert found.dropped == dict.fromkeys(means, taken) | dict.fromkeys(counters, number)


def test_as_the_rotation_trick_s_authors_trained_it() -> None:
    """Table 3, whose YAML tells; asked for by the authors' name it is the same."""
    tensors, said = sample()
    foreign = Foreign(tensors, {**hoisted(said), "rot_trick": True}, "model.ckpt")
    found = plan(foreign)
    assert found.settings["estimator"] == "rotation_radial_free"
    assert found.settings["estimator_args"] == {"strict": True}
    assert found.notes == (
        SCALING,
        "As the authors' code trained it, the gradient is rotated without its radial part: the "
        "estimator rotation_radial_free.",
    )
    again = FAMILIES["rotation_trick"].plan(foreign)
    assert (again.settings, again.notes) == (found.settings, found.notes)
    assert built(found).config.estimator == "rotation_radial_free"
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {**hoisted(said), "rot_trick": "yes"}, "model.ckpt"))
    assert str(error.value) == (
        "rot_trick is true or false; the settings of the checkpoint say 'yes'"
    )


def test_what_tells_it_from_taming() -> None:
    narrow = sample()[0]
    wide = taming.sample()[0]
    assert (kind_of(narrow), kind_of(wide)) == ("ldm", "taming")
    assert kind_of(wide | {"model_ema.decay": torch.ones(())}) == "ldm"
    assert kind_of({k: t for k, t in wide.items() if ".mid.attn_1." not in k}) == "ldm"


def test_back_to_the_layout() -> None:
    tensors, _ = sample()
    back = to_taming(built(planned()))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
