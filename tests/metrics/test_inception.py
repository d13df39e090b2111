"""FID's Inception against its definition in plain functions, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_weights import VARIABLES, layout, random_tensors
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ImageError, LoadError
from vqtok.metrics.inception import NO_LOGITS, Inception
from vqtok.metrics.weights import find_weights

Weights = dict[str, Tensor]
HERE = "fid_inception_2015_12_05.safetensors"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_tensors(Inception())


@pytest.fixture(scope="module")
def net(weights: Weights) -> Inception:
    made = Inception()
    made.fill(weights, Path("random"), "Inception")
    return made


def pictures(n: int = 2, h: int = 50, w: int = 37) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, h, w), dtype=torch.uint8, generator=generator)


# --- the definition, in float64 -------------------------------------------------------------------


def resized(picture: Tensor, side: int) -> Tensor:
    """TensorFlow 1's bilinear resize of (C, H, W), pixel by pixel."""
    _, h, w = picture.shape
    out = torch.zeros(len(picture), side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            y, x = i * h / side, j * w / side
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = picture[:, y0, x0] * (1 - x + x0) + picture[:, y0, x1] * (x - x0)
            bottom = picture[:, y1, x0] * (1 - x + x0) + picture[:, y1, x1] * (x - x0)
            out[:, i, j] = top * (1 - y + y0) + bottom * (y - y0)
    return out


class ByHand:
    """The network, one line a layer."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int | None = None) -> Tensor:
        kernel, own = self.weights[f"{name}.conv.weight"], f"{name}.bn."
        same = [size // 2 for size in kernel.shape[2:]]
        x = F.conv2d(x, kernel, stride=stride, padding=same if padding is None else padding)
        mean, variance, factor, bias = (
            self.weights[own + part].view(-1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-3).sqrt() * factor + bias).clamp_min(0)

    def chain(self, x: Tensor, block: str, *names: str) -> Tensor:
        for name in names:
            x = self.conv(x, f"{block}.{name}")
        return x

    def average(self, x: Tensor) -> Tensor:
        """Of the neighbours that there are."""
        ones = torch.ones_like(x[:1, :1])
        kernel = torch.ones(x.shape[1], 1, 3, 3, dtype=x.dtype)
        total = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
        return total / F.conv2d(ones, kernel[:1], padding=1)

    def block_35(self, x: Tensor, b: str) -> Tensor:
        parts = (
            self.chain(x, b, "branch1x1"),
            self.chain(x, b, "branch5x5_1", "branch5x5_2"),
            self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self.chain(self.average(x), b, "branch_pool"),
        )
        return torch.cat(parts, 1)

    def to_17(self, x: Tensor, b: str) -> Tensor:
        double = self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2")
        parts = (
            self.conv(x, f"{b}.branch3x3", 2, 0),
            self.conv(double, f"{b}.branch3x3dbl_3", 2, 0),
            F.max_pool2d(x, 3, 2),
        )
        return torch.cat(parts, 1)

    def block_17(self, x: Tensor, b: str) -> Tensor:
        parts = (
            self.chain(x, b, "branch1x1"),
            self.chain(x, b, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            self.chain(x, b, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            self.chain(self.average(x), b, "branch_pool"),
        )
        return torch.cat(parts, 1)

    def to_8(self, x: Tensor, b: str) -> Tensor:
        longer = self.chain(x, b, *(f"branch7x7x3_{i}" for i in (1, 2, 3)))
        parts = (
            self.conv(self.chain(x, b, "branch3x3_1"), f"{b}.branch3x3_2", 2, 0),
            self.conv(longer, f"{b}.branch7x7x3_4", 2, 0),
            F.max_pool2d(x, 3, 2),
        )
        return torch.cat(parts, 1)

    def block_8(self, x: Tensor, b: str) -> Tensor:
        pooled = self.average(x) if b == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
        square = self.chain(x, b, "branch3x3_1")
        double = self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2")
        parts = (
            self.chain(x, b, "branch1x1"),
            *(self.chain(square, b, f"branch3x3_2{end}") for end in "ab"),
            *(self.chain(double, b, f"branch3x3dbl_3{end}") for end in "ab"),
            self.chain(pooled, b, "branch_pool"),
        )
        return torch.cat(parts, 1)

    def pool3(self, x: Tensor) -> Tensor:
        x = self.conv(x, "Conv2d_1a_3x3", 2, 0)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3", 1, 0), "Conv2d_2b_3x3")
        x = self.conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = F.max_pool2d(self.conv(x, "Conv2d_4a_3x3", 1, 0), 3, 2)
        for end in ("5b", "5c", "5d"):
            x = self.block_35(x, f"Mixed_{end}")
        x = self.to_17(x, "Mixed_6a")
        for end in ("6b", "6c", "6d", "6e"):
            x = self.block_17(x, f"Mixed_{end}")
        x = self.to_8(x, "Mixed_7a")
        for end in ("7b", "7c"):
            x = self.block_8(x, f"Mixed_{end}")
        return x.mean((2, 3))


def test_it_is_the_definition(net: Inception, weights: Weights) -> None:
    picture = pictures(1)
    prepared = (resized(picture[0].double(), 299)[None] - 128) / 128
    wanted = ByHand(weights).pool3(prepared)
    got = net.features(picture)
    assert got.logits is not None
    assert (got.pool3.shape, got.logits.shape) == ((1, 2048), (1, 1008))
    assert (got.pool3.dtype, got.logits.dtype) == (torch.float32, torch.float32)
    assert wanted.std() > 0.1
    torch.testing.assert_close(got.pool3.double(), wanted, rtol=1e-4, atol=1e-5)
    logits = wanted @ weights["fc.weight"].double().T
    torch.testing.assert_close(got.logits.double(), logits, rtol=1e-4, atol=1e-4)


# --- files ----------------------------------------------------------------------------------------


def test_files_with_and_without_the_classifier(
    net: Inception, weights: Weights, tmp_path: Path
) -> None:
    counters = {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(0)}
    torch.save(weights | counters, tmp_path / "whole.pth")
    bare = {n: t for n, t in weights.items() if not n.startswith("fc.")}
    save_file(bare, tmp_path / HERE)
    picture = pictures(1)
    wanted = net.features(picture)
    whole = Inception.load(tmp_path / "whole.pth").features(picture)
    assert torch.equal(whole.pool3, wanted.pool3)
    assert torch.equal(whole.logits, wanted.logits)
    short = Inception.load(tmp_path).features(picture)
    assert torch.equal(short.pool3, wanted.pool3)
    assert short.logits is None


def test_names_and_shapes_are_the_original_files(weights: Weights) -> None:
    """The print of torch-fidelity's network."""
    assert layout(weights) == "d84f693f2abd7fea"


def test_the_reason_for_no_logits_names_a_file_that_is_known(tmp_path: Path) -> None:
    (name,) = (part for part in NO_LOGITS.split() if part.endswith(".pth"))
    file = tmp_path / name
    file.write_bytes(b"")
    with pytest.raises(LoadError, match="damaged or another file"):
        find_weights("inception", tmp_path)


def test_other_weights(tmp_path: Path) -> None:
    save_file({"Conv2d_1a_3x3.conv.weight": torch.ones(32, 3, 3, 3)}, tmp_path / HERE)
    with pytest.raises(LoadError) as error:
        Inception.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / HERE} holds no weights of FID's Inception: without Conv2d_1a_3x3.bn.bias, "
        "Conv2d_1a_3x3.bn.running_mean, Conv2d_1a_3x3.bn.running_var and 372 more"
    )


# --- use ------------------------------------------------------------------------------------------


def test_each_picture_counts_alone_and_autocast_changes_nothing(net: Inception) -> None:
    both = pictures()
    wanted = net.features(both).pool3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.features(both).pool3, wanted)
    np.testing.assert_allclose(net.features(both[1:]).pool3, wanted[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            torch.zeros(1, 3, 8, 8),
            "Inception takes uint8 pictures (N, 3, H, W); got float32 (1, 3, 8, 8)",
        ),
        (
            torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
            "Inception takes uint8 pictures (N, 3, H, W); got uint8 (1, 8, 8, 3)",
        ),
    ],
)
def test_what_is_no_picture(net: Inception, given: Tensor, message: str) -> None:
    with pytest.raises(ImageError) as error:
        net.features(given)
    assert str(error.value) == message
