from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples.gumbel_vq import sample
from checkpoints.samples.taming import golden
from torch import Tensor

from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.gumbel_vq import plan
from vqtok.checkpoints.taming import to_taming
from vqtok.checkpoints.taming_parts import kind_of
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError

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
    found = planned(global_step=500_000)
    assert found.settings["quantizer"] == "gumbel"
    args = found.settings["quantizer_args"]
    assert args == {"kl_weight": 1e-8, "temperature": pytest.approx(0.45, abs=1e-5)}
    assert found.notes == (DRAWN,)
    model = built(found).train()
    drawn = model(pixels(1, 3, 24, 16), generator=torch.Generator().manual_seed(0))
    assert float(model.quantize.temperature) == pytest.approx(0.45, abs=1e-5)
    assert drawn.sample.isfinite().all()


def test_weights_of_the_loss_as_yaml_has_them() -> None:
    def weight(**settings: Any) -> float:
        found: float = planned(**settings).settings["quantizer_args"]["kl_weight"]
        return found

    assert weight(kl_weight="1e-4") == 1e-4  # PyYAML's, of 1e-4
    assert weight(kl_weight=0.5, lossconfig={"params": {"codebook_weight": 0.5}}) == 0.25


@pytest.mark.parametrize(
    ("step", "temperature"),
    [(0, 0.2), (50, 0.5), (100, 0.8), (150, 0.6), (200, 0.4), (10**6, 0.4)],
)
def test_the_schedule_is_taming_s(step: int, temperature: float) -> None:
    """LambdaWarmUpCosineScheduler: up in a line, down by half a cosine."""
    params = {"lr_start": 0.2, "lr_max": 0.8, "lr_min": 0.4}
    schedule = {"params": {"warm_up_steps": 100, "max_decay_steps": 200, **params}}
    args = planned(global_step=step, temperature_scheduler_config=schedule).settings
    assert args["quantizer_args"]["temperature"] == pytest.approx(temperature)


def test_a_schedule_s_floor_is_nothing_to_train_on_with() -> None:
    found = planned(global_step=2_000_000)
    assert found.settings["quantizer_args"]["temperature"] == 1 / 16
    assert found.notes[1:] == (
        "The temperature that its draws ended with is 1e-06, which lets no gradient pass: training "
        "would go on with 0.0625, or with what anneal.temperature says. Ids do not depend on it.",
    )

    def gradient(temperature: float) -> float:
        quantizer = built(found).train().quantize
        quantizer.temperature.fill_(temperature)
        z = pixels(1, 32, 8, 8).requires_grad_()
        quantizer(z, generator=torch.Generator().manual_seed(0)).z.square().sum().backward()
        assert z.grad is not None
        return float(z.grad.abs().sum())

    assert gradient(1e-6) == 0 < gradient(1 / 16)


def test_a_step_that_nothing_tells() -> None:
    found = planned()
    assert found.settings["quantizer_args"]["temperature"] == 0.9
    assert found.notes[1:] == (
        "The temperature that its draws ended with is not in the file: training would go on with "
        "0.9, or with what anneal.temperature says. Ids do not depend on it.",
    )


def test_the_step_of_a_file(tmp_path: Path) -> None:
    tensors, said = sample()
    torch.save({"state_dict": tensors, "global_step": 500_000}, tmp_path / "last.ckpt")
    (tmp_path / "last.yaml").write_text(yaml.safe_dump(said))
    made = build(tmp_path / "last.ckpt")
    assert float(made.model.quantize.temperature) == pytest.approx(0.45, abs=1e-5)


def schedule(**params: Any) -> dict[str, Any]:
    said = sample()[1]["model"]["params"]["temperature_scheduler_config"]["params"]
    return {"temperature_scheduler_config": {"params": {**said, **params}}}


@pytest.mark.parametrize(
    ("settings", "name", "right", "value"),
    [
        ({"kl_weight": None}, "kl_weight", "a number of at least 0", None),
        (schedule(lr_min="low"), "lr_min", "a number of at least 0", "low"),
        (schedule(max_decay_steps=0.5), "max_decay_steps", "a whole number of at least 0", 0.5),
        (
            {"global_step": None, **schedule(lr_start=0)},
            "global_step",
            "a whole number of at least 0",
            None,
        ),
    ],
)
def test_settings_that_cannot_be(
    settings: dict[str, Any], name: str, right: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**{"global_step": 7, **settings})
    assert str(error.value) == f"{name} is {right}; the settings of the checkpoint say {value!r}"


def test_without_a_yaml_its_temperature_is_not_known() -> None:
    found = plan(Foreign(sample()[0], {"resolution": 16}, "last.ckpt"))
    assert found.settings["quantizer_args"] == {"kl_weight": 1e-8, "temperature": 1.0}
    assert found.notes == (
        DRAWN,
        "Nothing tells how it was trained: kl_weight=1e-08, as of the published ones. Training "
        "alone depends on that.",
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
