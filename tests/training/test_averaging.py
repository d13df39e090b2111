from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from vqtok.training.averaging import Average


def moved(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


def test_the_mean_follows_its_closed_form() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, decay=0.3)
    expected = 0.0
    for update in range(1, 6):
        moved(model, 1.0)
        average.update(model)
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    with average.applied(model):
        assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_weights_come_back_bit_for_bit_and_even_after_an_error() -> None:
    model = tiny.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = Average(model, decay=0.9)
    moved(model, 0.1)
    average.update(model)
    now = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError), average.applied(model):
        assert torch.equal(model.quantize.count, now["quantize.count"])
        weight = model.decoder.conv_out.weight
        assert not torch.equal(weight, now["decoder.conv_out.weight"])
        raise RuntimeError
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, now[name])
    assert not torch.equal(before["decoder.conv_out.weight"], now["decoder.conv_out.weight"])


def test_codes_of_running_means_are_copied_and_codes_with_gradients_averaged() -> None:
    for update, averaged in (("ema", False), ("gradient", True)):
        model = tiny.model(quantizer_args={"codebook_update": update, "start": "kaiming"})
        average = Average(model, decay=0.9)
        with torch.no_grad():
            model.quantize.embedding.weight.add_(1.0)
        average.update(model)
        codes = model.quantize.embedding.weight.detach().clone()
        with average.applied(model):
            assert torch.equal(model.quantize.embedding.weight, codes) is not averaged


def test_a_mean_goes_on_from_its_state() -> None:
    model = tiny.model()
    one, other = Average(model, 0.9), Average(model, 0.9)
    moved(model, 0.5)
    one.update(model)
    other.load_state_dict(one.state_dict())
    moved(model, 0.5)
    one.update(model)
    other.update(model)
    assert one.updates == other.updates == 2
    for name, mean in one.means.items():
        assert torch.equal(mean, other.means[name])


def test_frozen_weights_are_left_out() -> None:
    model = tiny.model()
    model.encoder.requires_grad_(False)
    names = Average(model, 0.9).means
    assert names
    assert not any(name.startswith("encoder.") for name in names)


def test_weights_of_half_precision_have_means_of_float32_and_come_back() -> None:
    """In bfloat16 a mean with a decay near 1 would stand still."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2).bfloat16()
    average = Average(model, decay=0.999)
    for _ in range(3):
        moved(model, 0.01)
        average.update(model)
    own = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    assert {mean.dtype for mean in average.means.values()} == {torch.float32}
    with average.applied(model):
        for name, weight in model.named_parameters():
            assert torch.equal(weight, average.means[name].bfloat16())
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, own[name])


def test_its_state_is_read_without_pickle(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    one, other = Average(model, 0.9), Average(model, 0.9)
    moved(model, 0.5)
    one.update(model)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.updates == 1
    for name, mean in one.means.items():
        assert torch.equal(mean, other.means[name])
