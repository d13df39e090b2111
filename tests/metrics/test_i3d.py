"""FVD's I3D against its definition in plain functions, on random weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_weights import VARIABLES, layout, random_tensors
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ImageError, LoadError
from vqtok.metrics.i3d import I3D

Weights = dict[str, Tensor]
BLOCKS = ["3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"]
FILE = "i3d_kinetics400.safetensors"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_tensors(I3D())


@pytest.fixture(scope="module")
def net(weights: Weights) -> I3D:
    made = I3D()
    made.fill(weights, Path("random"), "I3D")
    return made


def clips(n: int = 1, frames: int = 9, h: int = 30, w: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, frames, h, w, 3), dtype=torch.uint8, generator=generator)


# --- the definition -------------------------------------------------------------------------------


def padded(x: Tensor, size: list[int], stride: list[int], value: float) -> Tensor:
    """TensorFlow's "SAME": ceil(n / stride) windows, and half of what they lack before."""
    for axis in (2, 3, 4):
        n, k, s = x.shape[axis], size[axis - 2], stride[axis - 2]
        more = max((math.ceil(n / s) - 1) * s + k - n, 0)
        before, after = (
            torch.full_like(x.narrow(axis, 0, 1), value).repeat_interleave(count, axis)
            for count in (more // 2, more - more // 2)
        )
        x = torch.cat([before, x, after], axis)
    return x


class ByHand:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel, own = self.weights[f"{name}.conv.weight"], f"{name}.bn."
        x = F.conv3d(padded(x, list(kernel.shape[2:]), [stride] * 3, 0), kernel, stride=stride)
        mean, variance, factor, bias = (
            self.weights[own + part].view(-1, 1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-3).sqrt() * factor + bias).clamp_min(0)

    def pool(self, x: Tensor, size: list[int], stride: list[int]) -> Tensor:
        return F.max_pool3d(padded(x, size, stride, -math.inf), size, stride)

    def block(self, x: Tensor, b: str) -> Tensor:
        parts = (
            self.conv(x, f"{b}.b0"),
            self.conv(self.conv(x, f"{b}.b1a"), f"{b}.b1b"),
            self.conv(self.conv(x, f"{b}.b2a"), f"{b}.b2b"),
            self.conv(self.pool(x, [3, 3, 3], [1, 1, 1]), f"{b}.b3"),
        )
        return torch.cat(parts, 1)

    def logits(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x, "Conv3d_1a_7x7", 2), [1, 3, 3], [1, 2, 2])
        x = self.conv(self.conv(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        x = self.pool(x, [1, 3, 3], [1, 2, 2])
        for end in BLOCKS:
            if end in ("4b", "5b"):
                side = 3 if end == "4b" else 2
                x = self.pool(x, [side] * 3, [2, 2, 2])
            x = self.block(x, f"Mixed_{end}")
        pairs = (x[:, :, 1:] + x[:, :, :-1]).mean((3, 4)) / 2
        weight = self.weights["logits.weight"].flatten(1)
        return pairs.mean(2) @ weight.T + self.weights["logits.bias"]


def prepared(clips: Tensor) -> Tensor:
    frames = clips.double().permute(0, 1, 4, 2, 3).flatten(0, 1) / 127.5 - 1
    frames = F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False)
    return frames.unflatten(0, clips.shape[:2]).transpose(1, 2).float()


@pytest.mark.parametrize("frames", [9, 18])
def test_it_is_the_definition(frames: int, net: I3D, weights: Weights) -> None:
    clip = clips(1, frames)
    wanted = ByHand(weights).logits(prepared(clip))
    got = net.features(clip)
    assert (got.shape, got.dtype) == ((1, 400), torch.float32)
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


# --- files ----------------------------------------------------------------------------------------


def short(name: str) -> str:
    for long, brief in (("1a_7x7", "c1"), ("2b_1x1", "c2b"), ("2c_3x3", "c2c")):
        name = name.replace(f"Conv3d_{long}", brief)
    name = name.replace("Mixed", "mix.Mixed")
    return name.replace("logits.", "logits.conv.")


def tensorflow(name: str) -> str:
    name = name.replace(".conv.", ".conv3d.").replace(".b3.", ".b3b.")
    return name.replace("logits.", "logits.conv3d.")


def test_both_ways_to_call_layers(net: I3D, weights: Weights, tmp_path: Path) -> None:
    factorless = {n: t for n, t in weights.items() if not n.endswith("bn.weight")}
    save_file({short(n): t for n, t in factorless.items()}, tmp_path / FILE)
    counters = {"Conv3d_1a_7x7.bn.num_batches_tracked": torch.tensor(0)}
    torch.save({tensorflow(n): t for n, t in weights.items()} | counters, tmp_path / "i3d.pt")
    named = dict(I3D.load(tmp_path / "i3d.pt").named_buffers())
    brief = dict(I3D.load(tmp_path).named_buffers())
    assert named.keys() == brief.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(named[name], tensor)
        ones = name not in factorless
        assert torch.equal(brief[name], torch.ones_like(tensor) if ones else tensor)


def test_names_and_shapes_are_the_original_files(weights: Weights) -> None:
    assert layout(weights) == "c9908a6c09d63e5a"


def test_other_weights(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.ones(3)}, tmp_path / FILE)
    with pytest.raises(LoadError) as error:
        I3D.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / FILE} holds no weights of I3D: without Conv3d_1a_7x7.bn.bias, "
        "Conv3d_1a_7x7.bn.running_mean, Conv3d_1a_7x7.bn.running_var and 227 more; with the "
        "unknown fc.weight"
    )


# --- use ------------------------------------------------------------------------------------------


def test_each_clip_counts_alone_and_autocast_changes_nothing(net: I3D) -> None:
    both = clips(2)
    wanted = net.features(both)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.features(both), wanted)
    np.testing.assert_allclose(net.features(both[1:]), wanted[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            torch.zeros(1, 9, 8, 8, 3),
            "I3D takes uint8 clips (N, T, H, W, 3); got float32 (1, 9, 8, 8, 3)",
        ),
        (
            torch.zeros(1, 3, 9, 8, 8, dtype=torch.uint8),
            "I3D takes uint8 clips (N, T, H, W, 3); got uint8 (1, 3, 9, 8, 8)",
        ),
        (
            torch.zeros(1, 8, 8, 8, 3, dtype=torch.uint8),
            "I3D takes clips of 9 frames or more; got 8",
        ),
    ],
)
def test_what_is_no_clip(net: I3D, given: Tensor, message: str) -> None:
    with pytest.raises(ImageError) as error:
        net.features(given)
    assert str(error.value) == message
