"""Figures with the real networks, where VQTOK_METRIC_WEIGHTS names a folder of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vqtok.metrics.frechet import Moments, frechet_distance
from vqtok.metrics.i3d import I3D
from vqtok.metrics.inception import Inception
from vqtok.metrics.lpips import Lpips, Net
from vqtok.metrics.pixels import from_uint8

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    "VQTOK_METRIC_WEIGHTS" not in os.environ, reason="VQTOK_METRIC_WEIGHTS names no folder"
)


def centre(name: str, side: int = 256) -> Tensor:
    """uint8 (3, side, side)."""
    picture = Image.open(ROOT / f"vqtok/zoo/samples/{name}.jpg").convert("RGB")
    left, top = ((n - side) // 2 for n in picture.size)
    part = np.array(picture.crop((left, top, left + side, top + side)))
    return torch.from_numpy(part).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize(("net", "wanted"), [("alex", 0.721905), ("vgg", 0.708801)])
def test_lpips_of_two_photographs(net: Net, wanted: float) -> None:
    """The figures of the package lpips 0.1.4."""
    x, y = (from_uint8(centre(name)[None]) for name in ("astronaut", "chelsea"))
    assert Lpips.load(net)(x, y).item() == pytest.approx(wanted, rel=1e-5)


def test_fid_of_a_set_and_itself() -> None:
    pictures = torch.stack([centre(n, 128) for n in ("astronaut", "chelsea", "coffee", "rocket")])
    net = Inception.load()
    moments = Moments(2048)
    moments.add(net.features(pictures).pool3)
    other = Moments(2048)
    other.add(net.features(pictures.flip(0)).pool3)
    assert moments.rank_deficient
    assert frechet_distance(moments, other) < 1e-6


def test_i3d_of_a_sliding_photograph() -> None:
    """Three largest logits, as two implementations have them."""
    picture = centre("astronaut").permute(1, 2, 0)
    clip = torch.stack([picture[:128, 4 * t : 4 * t + 128] for t in range(16)])
    values, classes = I3D.load().features(clip[None]).topk(3)
    assert classes.tolist() == [[54, 52, 96]]
    assert values.tolist() == [pytest.approx([9.3264, 7.9685, 6.4647], rel=1e-4)]
