from __future__ import annotations

from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.gumbel_vq import sample
from checkpoints.samples.taming import golden
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.gumbel_vq import plan
from vqtok.checkpoints.taming import to_taming
from vqtok.checkpoints.taming_parts import kind_of
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import LoadError

DRAWN = (
    "The source draws its ids at random when it evaluates, too; ids here are the most probable "
    "ones, and the same each time."
)


def planned(tensors: dict[str, Tensor] | None = None, **settings: Any) -> Plan:
    """The sample with other tensors as well, and other settings."""
    found, said = sample()
    return plan(Foreign(found | (tensors or {}), {**hoisted(said), **settings}, "last.ckpt"))


@torch.no_grad()
def test_it_computes_what_taming_does() -> None:
    model, theirs = built(planned()), golden("gumbel_vq")
    x = pixels(1, 3, 24, 16)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert same_ids(codes, theirs["codes"])
    made = model.decode(latents).sample
    assert agree(made, theirs["pixels"])
    assert torch.allclose(model.quantize(latents).losses["entropy"], theirs["entropy"])
    assert torch.equal(model.decode_codes(codes), made.clamp(-1, 1))


def test_it_trains_on_as_the_yaml_says() -> None:
    found = planned()
    assert found.settings["quantizer"] == "gumbel"
    assert found.settings["quantizer_args"] == {"kl_weight": 1e-8, "temperature": 1e-6}
    assert found.notes == (DRAWN,)
    assert planned(kl_weight=1e-4).settings["quantizer_args"]["kl_weight"] == 1e-4
    model = built(found).train()
    drawn = model(pixels(1, 3, 24, 16), generator=torch.Generator().manual_seed(0))
    assert float(model.quantize.temperature) == pytest.approx(1e-6)
    assert drawn.sample.isfinite().all()


def test_without_a_yaml_its_temperature_is_not_known() -> None:
    found = plan(Foreign(sample()[0], {"resolution": 16}, "last.ckpt"))
    assert found.settings["quantizer_args"] == {"kl_weight": 1e-8, "temperature": 1.0}
    assert found.notes == (
        DRAWN,
        "The temperature that its draws ended with is not in the file: training would go on with "
        "1, or with what anneal.temperature says. Ids do not depend on it.",
    )


def test_it_is_known_by_its_scores() -> None:
    assert kind_of(sample()[0]) == "gumbel_vq"


def test_back_to_taming() -> None:
    tensors, _ = sample()
    back = to_taming(built(planned()))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())


def test_scores_of_other_latents() -> None:
    with pytest.raises(LoadError) as error:
        planned({"quantize.proj.weight": torch.zeros(64, 16, 1, 1)})
    assert str(error.value) == (
        "last.ckpt holds scores (64, 16) and codes (64, 32) for latents of 32 dimensions; all "
        "three have as many"
    )


def test_a_file_that_lacks_its_codes() -> None:
    tensors, _ = sample()
    del tensors["quantize.embed.weight"]
    with pytest.raises(LoadError) as error:
        plan(Foreign(tensors, {}, "last.ckpt"))
    assert str(error.value) == "the quantizer of last.ckpt lacks 'embed.weight'"
