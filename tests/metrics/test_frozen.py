"""A frozen network holds what its file holds, and nothing changes that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from metric_weights import random_tensors
from torch import Tensor, nn

from vqtok.errors import LoadError
from vqtok.metrics.frozen import Frozen

FILE = Path("some.safetensors")


class Net(Frozen):
    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.conv = nn.Conv2d(3, 4, 1)
            self.bn = nn.BatchNorm2d(4)
        self.register_buffer("gain", torch.tensor(0.5))
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x)) * self.gain
        return out


def filled(**changes: Tensor) -> Net:
    net = Net()
    net.fill(random_tensors(net) | changes, FILE, "the net")
    return net


def test_nothing_learns_or_is_saved_or_moves() -> None:
    parent = nn.Sequential(filled())
    x = torch.randn(2, 3, 5, 5)
    before = parent(x)
    parent.train().requires_grad_()
    assert torch.equal(parent(x), before)
    assert torch.equal(parent(x), before)
    assert list(parent.parameters()) == []
    assert parent.state_dict() == {}
    assert not before.requires_grad


def test_half_passes_by_and_double_does_not() -> None:
    net = filled()
    assert {t.dtype for t in nn.Sequential(net).half().buffers()} == {torch.float32}
    assert {t.dtype for t in net.to(torch.bfloat16).buffers()} == {torch.float32}
    assert {t.dtype for t in net.double().buffers()} == {torch.float64}


def test_no_random_number_is_drawn() -> None:
    state = torch.get_rng_state()
    Net()
    assert torch.equal(torch.get_rng_state(), state)


def test_values_are_those_given_in_float32() -> None:
    given = {"conv.weight": torch.full((4, 3, 1, 1), 0.25, dtype=torch.float16)}
    net = filled(**given)
    assert net.conv.weight.dtype == torch.float32
    assert (net.conv.weight == 0.25).all()
    assert net.gain == 0.5


def test_factors_may_be_left_out_and_counters_are_not_looked_at() -> None:
    net = Net()
    tensors = random_tensors(net)
    del tensors["bn.weight"]
    net.fill(tensors | {"bn.num_batches_tracked": torch.tensor(7)}, FILE, "the net")
    assert net.bn.weight.tolist() == [1] * 4


def test_other_weights_are_refused() -> None:
    net = Net()
    tensors = random_tensors(net)
    wrong = {f"layer{i}": torch.ones(1) for i in range(5)} | {"bn.bias": torch.ones(5)}
    del tensors["conv.bias"]
    with pytest.raises(LoadError) as error:
        net.fill(tensors | wrong, FILE, "the net")
    assert str(error.value) == (
        "some.safetensors holds no weights of the net: without conv.bias; with the unknown layer0, "
        "layer1, layer2 and 2 more; of other shapes: bn.bias"
    )
