from __future__ import annotations

from typing import Any

import pytest
import torch

from vqtok.checkpoints.wrappers import ema_weights, hoisted, merged, stripped, unwrap
from vqtok.errors import LoadError

# A stand-in for a tensor, so that its place shows.
A = {"a.w": 1.0, "b.w": 2.0}
B = {"a.w": 3.0, "b.w": 4.0}
EMA_NOTE = "the weights are those of {!r}, their running mean in training"


def taken(found: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    made = unwrap(found, float)
    return made.tensors, made.notes


@pytest.mark.parametrize(
    "found",
    [
        A,
        {"state_dict": A, "epoch": 1},
        {"model": A},
        {"generator": A},
        {"module": A},
        {"model": {"state_dict": A}},
        {"trainer": {"vae_local": A, "other": 3}},
        {"state_dict": A, "optimizer_states": [{"state": {0: {"exp_avg": 1.0}}}]},
        {"ema": {}, "model": A},
        {"ema": None, "model": A},
        {**A, "model": {}},
    ],
)
def test_containers(found: Any) -> None:
    assert taken(found) == (A, ())


@pytest.mark.parametrize("name", ["ema", "ema_state_dict", "state_dict_ema", "ema_model"])
def test_a_running_mean_goes_before(name: str) -> None:
    assert taken({"model": A, name: B}) == (B, (EMA_NOTE.format(name),))
    assert taken({name: B}) == (B, (EMA_NOTE.format(name),))


def test_a_running_mean_with_another_prefix() -> None:
    """As torch's AveragedModel around a DistributedDataParallel has it."""
    model = {f"module.{key}": value for key, value in A.items()}
    mean = {f"module.module.{key}": value for key, value in B.items()}
    found = {"state_dict": model, "ema_state_dict": {**mean, "n_averaged": 7.0}}
    assert taken(found) == (mean, (EMA_NOTE.format("ema_state_dict"),))


def test_a_running_mean_of_a_part() -> None:
    assert taken({"model": A, "ema": {"a.w": 3.0}}) == (
        A,
        ("'ema' was left aside: it lacks 1 of the model's tensors",),
    )


@pytest.mark.parametrize("name", ["discriminator", "disc"])
def test_a_discriminator_beside_the_model(name: str) -> None:
    made = {**A, "discriminator.main.0": 5.0}
    assert taken({"model": A, name: {"main.0": 5.0}, "optimizer_disc": {"x": 1.0}}) == (made, ())


def test_settings_on_the_way() -> None:
    found = {"model": {"state_dict": A, "config": {"a": 1}}, "args": {"b": 2}, "hparams": 1.0}
    assert unwrap(found, float).settings == {"args": {"b": 2}, "config": {"a": 1}}


def test_containers_that_hold_themselves() -> None:
    around: dict[str, Any] = {"a": 1.0}
    around["model"] = around["state_dict"] = around["module"] = around
    assert taken(around) == ({"a": 1.0}, ())
    assert taken({"model": around}) == ({"a": 1.0}, ())


@pytest.mark.parametrize("found", [3, None, [A], {"model": 3}])
def test_what_holds_nothing(found: Any) -> None:
    assert taken(found) == ({}, ())


# --- prefixes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["module.a", "module.b"], ["a", "b"]),
        (["module.module.a", "module.module.b"], ["a", "b"]),
        (["_orig_mod.a", "b._orig_mod.c"], ["a", "b.c"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["a._fsdp_wrapped_module.b"], ["a.b"]),
        (["a._checkpoint_wrapped_module.b"], ["a.b"]),
        (["vqmodel.a", "vqmodel.b"], ["a", "b"]),
        (["model.vqmodel.a", "lm_head.b"], ["a"]),
        (["model.vqmodel.a", "model.layers.0.b"], ["a"]),
        (["gen_vision_model.a", "vision_model.b"], ["a"]),
        (["first_stage_model.a", "model.diffusion_model.b", "model_ema.c"], ["a"]),
        (["module.first_stage_model.a", "module.model.b"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module.a", "discriminator.x"], ["a", "discriminator.x"]),
        (["model.a", "model.b"], ["a", "b"]),
        (["modules.a"], ["modules.a"]),
    ],
)
def test_prefixes(names: list[str], expected: list[str]) -> None:
    assert list(stripped(names).values()) == expected
    assert set(stripped(names)) <= set(names)


# --- Lightning's running means --------------------------------------------------------------------


def test_running_means_under_names_without_dots() -> None:
    tensors = {
        "encoder.conv_in.weight": torch.zeros(1),
        "quantize.table": torch.zeros(2),
        "norm.running_mean": torch.zeros(3),
        "model_ema.encoderconv_inweight": torch.ones(1),
        "model_ema.quantizetable": torch.ones(2),
        "model_ema.decay": torch.tensor(0.9),
        "model_ema.num_updates": torch.tensor(3),
    }
    found = ema_weights(tensors)
    assert {key: float(tensor.mean()) for key, tensor in found.items()} == {
        "encoder.conv_in.weight": 1,
        "quantize.table": 1,
        "norm.running_mean": 0,
    }


def test_no_running_means() -> None:
    assert ema_weights({"a.b": 1, "c": 2}) == {"a.b": 1, "c": 2}


def test_running_means_of_nothing() -> None:
    with pytest.raises(LoadError) as error:
        ema_weights({"a.b": 1, "model_ema.ac": 2}, "x.ckpt")
    assert (
        str(error.value) == "x.ckpt holds 'model_ema.ac', a running mean of no tensor that is in it"
    )


def test_running_means_that_could_be_of_two() -> None:
    with pytest.raises(LoadError) as error:
        ema_weights({"a.bc": 1, "ab.c": 2, "model_ema.abc": 3})
    assert str(error.value) == (
        "the file holds running means whose names fit both 'a.bc' and 'ab.c'"
    )


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"n": 8},
        {"model": {"params": {"n": 8}}},
        {"model": {"init_args": {"n": 8}}},
        {"model": {"params": {"n": 1, "first_stage_config": {"params": {"n": 8}}}}},
        {"n": 1, "vq_config": {"n": 8}},
        {"model": {"n": 8, "target": "x"}, "data": {"params": {"n": 2}}},
    ],
)
def test_settings_of_the_tokenizer_are_on_top(settings: Any) -> None:
    found = hoisted(settings)
    assert found["n"] == 8
    assert all(found[key] == value for key, value in settings.items() if key != "n")


def test_layers_of_settings() -> None:
    assert merged() == {}
    layers = {"a": {"x": 1, "y": 1}, "b": {"z": 1}}, {"a": {"y": 2}, "b": 3}, {"b": {"w": 4}}
    assert merged(*layers) == {"a": {"x": 1, "y": 2}, "b": {"w": 4}}
    assert layers[0] == {"a": {"x": 1, "y": 1}, "b": {"z": 1}}
