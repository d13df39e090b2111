from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import toy_family
from torch import Tensor

from vqtok.checkpoints import FAMILIES, Foreign
from vqtok.checkpoints.building import build, recognise
from vqtok.checkpoints.report import by_reason
from vqtok.errors import ConfigError, LoadError, UnknownNameError
from vqtok.preprocess import Preprocess


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_family.register(monkeypatch)


def foreign(tensors: dict[str, Tensor] | None = None, **settings: Any) -> Foreign:
    found = toy_family.tensors() if tensors is None else tensors
    return Foreign(found, {"size": 16, **settings}, "x.ckpt", ("A note of the opener.",))


def refused(found: Foreign | Path, kind: type[Exception] = LoadError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        build(found, **options)
    return str(error.value)


def test_a_model_with_each_weight() -> None:
    made, own = build(foreign()), toy_family.model()
    assert (made.family, made.model.training) == ("toy", False)
    assert made.preprocess == Preprocess(policy="center", size=16, stride=4)
    found = made.model.state_dict()
    for key, tensor in own.state_dict().items():
        assert key in toy_family.STATE or torch.equal(found[key], tensor)
    assert list(made.discriminator) == ["blocks.0.weight"]
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(made.model.encode_codes(pixels), own.encode_codes(pixels))


def test_another_family_than_the_keys_say(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_family.register(monkeypatch, "other", recognises=lambda tensors: False)
    made = build(foreign(), "other")
    assert (made.family, made.report.notes[-1]) == (
        "other",
        "By its keys it is of the family toy; it was read as other, as told.",
    )
    assert build(foreign(), "toy").report == build(foreign()).report
    with pytest.raises(LoadError) as error:
        build(foreign(), "llamagen")
    assert error.value.__notes__ == ["By its keys it is of the family toy, and not of llamagen"]
    bare = {"a.b": torch.zeros(1)}
    with pytest.raises(LoadError) as error:
        build(foreign(bare), "llamagen")
    assert not hasattr(error.value, "__notes__")


def test_half_precision_becomes_float32() -> None:
    halves = {key: tensor.half() for key, tensor in toy_family.tensors().items()}
    assert build(foreign(halves)).model.dtype == torch.float32


def test_from_a_file(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    made = build(file)
    assert (made.family, made.report.origin) == ("toy", str(file))
    assert build(file, settings={"size": 32}).preprocess.size == 32
    (tmp_path / "other.yaml").write_text("size: 8")
    assert build(file, "toy", config=tmp_path / "other.yaml").preprocess.size == 8


def test_what_only_the_user_can_tell(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt", size=None)
    assert refused(file, ConfigError) == (
        f"{file} does not tell size, the side of its pictures: pass the YAML or JSON that it was "
        "trained with as config, or size itself"
    )


# --- whose it is ----------------------------------------------------------------------------------


def test_keys_of_nobody() -> None:
    names = {f"part{n}": torch.zeros(1) for n in range(6)}
    known = ", ".join(FAMILIES)
    assert refused(foreign(names)) == (
        "x.ckpt is of no family that is known. Its keys are part0, part1, part2, part3 and 2 more. "
        f"Known families: {known}."
    )
    assert "Its keys are part0. Known" in refused(foreign({"part0": torch.zeros(1)}))


def test_keys_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_family.register(monkeypatch, "toy_too")
    assert refused(foreign()) == ("x.ckpt could be of any of the families toy, toy_too; name one")
    assert build(foreign(), "toy_too").family == "toy_too"
    assert recognise.__doc__


def test_a_family_that_is_none() -> None:
    assert refused(foreign(), UnknownNameError, family="toi").startswith(
        "there is no checkpoint family called 'toi'. Did you mean 'toy'? Known: "
    )


# --- weights that do not fit ----------------------------------------------------------------------


def without(found: dict[str, Tensor]) -> None:
    del found["toy.quant_conv.bias"], found["toy.encoder.conv_in.weight"]


def another(found: dict[str, Tensor]) -> None:
    found["toy.extra.weight"] = torch.zeros(2, 3)


def wider(found: dict[str, Tensor]) -> None:
    found["toy.quantize.embedding.weight"] = torch.zeros(64, 5)


def one_number(found: dict[str, Tensor]) -> None:
    found["toy.quant_conv.bias"] = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without,
            "x.ckpt lacks 2 of the model's 84 tensors, among them 'encoder.conv_in.weight' of "
            "shape 8 x 3 x 3 x 3",
        ),
        (
            another,
            "x.ckpt has 'extra.weight' of shape 2 x 3, for which the model that its settings "
            "describe has no place",
        ),
        (
            wider,
            "x.ckpt has 'quantize.embedding.weight' of shape 64 x 5, and in the model that its "
            "settings describe it is 64 x 4",
        ),
        (
            one_number,
            "x.ckpt has 'quant_conv.bias' of shape (), and in the model that its settings describe "
            "it is 4",
        ),
    ],
)
def test_weights_that_do_not_fit(change: Callable[[dict[str, Tensor]], None], message: str) -> None:
    found = toy_family.tensors()
    change(found)
    said = refused(foreign(found))
    assert said.replace(f"model's {len(toy_family.model().state_dict())}", "model's 84") == message


def test_settings_that_the_model_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(found: Foreign) -> Any:
        made = toy_family.plan(found)
        made.settings["attention"] = True
        return made

    toy_family.register(monkeypatch, "odd", plan=plan)
    assert refused(foreign(), ConfigError, family="odd").startswith(
        "the architecture 'cnn' has no setting 'attention'. "
    )


def test_numbers_that_are_none() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        for key in ("quant_conv.bias", "judge"):
            found = toy_family.tensors()
            at = "judge.weight" if key == "judge" else f"toy.{key}"
            found[at] = found[at].clone()
            found[at][1] = bad
            named = "blocks.0.weight" if key == "judge" else key
            assert refused(foreign(found)) == (
                f"x.ckpt has NaN or infinity in {named!r}; a training that diverged leaves such, "
                "or a damaged file"
            )
    found = toy_family.tensors()
    found["toy.quant_conv.bias"] = found["toy.quant_conv.bias"].double() + 1e300
    assert refused(foreign(found)).startswith("x.ckpt has NaN or infinity in 'quant_conv.bias'; ")


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn]
)
def test_weights_that_are_no_floats(dtype: torch.dtype) -> None:
    found = toy_family.tensors()
    found["toy.quant_conv.bias"] = found["toy.quant_conv.bias"].to(dtype)
    assert refused(foreign(found)) == (
        f"x.ckpt has 'quant_conv.bias' as {str(dtype).removeprefix('torch.')}; a weight is one of "
        "float16, bfloat16, float32, float64, and files that are quantised to less cannot be read"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float(dtype: torch.dtype) -> None:
    found = {key: tensor.to(dtype) for key, tensor in toy_family.tensors().items()}
    weight = build(foreign(found)).model.state_dict()["quant_conv.weight"]
    assert torch.equal(weight, found["toy.quant_conv.weight"].float())


@pytest.mark.parametrize(
    "kind", [IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, RuntimeError]
)
def test_a_plan_that_stumbles(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def plan(found: Foreign) -> Any:
        raise kind("no\n  axis")

    toy_family.register(monkeypatch, "odd", plan=plan)
    said = r"'no\n axis'" if kind is KeyError else "no axis"
    assert refused(foreign(), family="odd") == (
        f"x.ckpt looks like odd, but its tensors do not fit together: {kind.__name__}: {said}"
    )


def test_tensors_that_cannot_be_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def recognises(found: Any) -> bool:
        return bool(found["toy.quant_conv.bias"].shape[7])

    toy_family.register(monkeypatch, "odd", recognises=recognises)
    assert refused(foreign()) == (
        "x.ckpt looks like odd, but its tensors do not fit together: IndexError: tuple index out "
        "of range"
    )


def test_a_model_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(found: Foreign) -> Any:
        made = toy_family.plan(found)
        made.settings["norm_num_groups"] = 0
        return made

    toy_family.register(monkeypatch, "odd", plan=plan)
    assert refused(foreign(), family="odd").startswith("x.ckpt looks like odd, but its tensors ")


# --- the report -----------------------------------------------------------------------------------


def test_the_report() -> None:
    made = build(foreign())
    own = {k: t for k, t in toy_family.model().state_dict().items() if k not in toy_family.STATE}
    parameters = sum(tensor.numel() for tensor in own.values())
    assert made.report.to_dict() == {
        "schema": "vqtok-conversion/1",
        "family": "toy",
        "title": "a toy",
        "licence": "a toy's licence",
        "tensors": len(own),
        "parameters": parameters,
        "dropped": {"a part of the loss": ["loss.weight"]},
        "discriminator": 1,
        "training_state": ["quantize.count", "quantize.steps"],
        "notes": ["A note of the opener.", "Toys are small."],
    }
    assert str(made.report) == "\n".join(
        [
            "source        x.ckpt",
            "family        toy: a toy",
            "licence       a toy's licence",
            f"loaded        {len(own)} tensors, {parameters / 1e6:.2f} M parameters",
            "dropped       1 tensor (loss.weight): a part of the loss",
            "kept          1 tensor of a discriminator, for fine-tuning",
            "missing       quantize.count, quantize.steps: training state, which starts anew",
            "note          A note of the opener.",
            "note          Toys are small.",
        ]
    )


def test_reasons() -> None:
    assert by_reason({"a": "x", "b": "y", "c": "x"}) == {"x": ["a", "c"], "y": ["b"]}
