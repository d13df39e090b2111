"""Figures are those of lpips, torchmetrics and torch-fidelity, given the same weights.

These need torchvision, which does not go with every torch, so they live in an environment of
their own: `python -m venv ORACLES && ORACLES/bin/pip install torch torchvision torch-fidelity
torchmetrics lpips`; VQTOK_ORACLES names it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_weights import random_tensors, random_weights
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqtok.metrics.frechet import Moments, Predictions, frechet_distance, inception_score
from vqtok.metrics.inception import Inception
from vqtok.metrics.lpips import Lpips, Net
from vqtok.metrics.pixels import from_uint8
from vqtok.metrics.weights import find_weights, read_tensors

ROOT = Path(__file__).resolve().parents[2]
ORACLES = os.environ.get("VQTOK_ORACLES")
REAL = os.environ.get("VQTOK_METRIC_WEIGHTS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ORACLES is None, reason="VQTOK_ORACLES names no environment of oracles"),
]


def crops() -> tuple[Tensor, Tensor]:
    """uint8 (12, 3, 80, 96) twice: parts of the sample pictures, and the same, coarser."""
    random = np.random.default_rng(0)
    files = sorted((ROOT / "vqtok/zoo/samples").glob("*.jpg"))
    found: list[list[np.ndarray]] = [[], []]
    for i in range(12):
        picture = Image.open(files[i % len(files)]).convert("RGB")
        left, top = (int(random.integers(0, side - 96)) for side in picture.size)
        part = picture.crop((left, top, left + 96, top + 80))
        coarse = part.resize((24, 20)).resize((96, 80))
        for parts, one in zip(found, (part, coarse), strict=True):
            parts.append(np.asarray(one))
    a, b = (torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2) for parts in found)
    return a.contiguous(), b.contiguous()


def vectors() -> tuple[Tensor, Tensor]:
    """float64 (300, 40) twice."""
    generator = torch.Generator().manual_seed(0)
    p, q, mixing = (torch.randn(n, 40, generator=generator).double() for n in (300, 300, 40))
    return p, q @ mixing + 1


def weights(folder: Path, name: str) -> None:
    """Real ones where VQTOK_METRIC_WEIGHTS names some, else random."""
    file = random_weights(folder, name)
    real = Path(REAL or folder) / file.name
    save_file(read_tensors(real), file)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("oracles")
    for name in ("vgg16", "alexnet", "inception"):
        weights(place, name)
    whole = random_tensors(Inception(), seed=1)
    whole |= load_file(find_weights("inception", place))
    factors = {n: torch.ones_like(t) for n, t in whole.items() if n.endswith("bn.weight")}
    counters = {n.replace("weight", "num_batches_tracked"): torch.tensor(0) for n in factors}
    torch.save(factors | whole | counters, place / "inception.pth")
    a, b = crops()
    p, q = vectors()
    save_file({"a": a, "b": b, "p": p, "q": q}, place / "given.safetensors")
    command = [f"{ORACLES}/bin/python", Path(__file__).parent / "oracles/run.py", place]
    subprocess.run(command, check=True)
    return place


@pytest.fixture(scope="module")
def oracle(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "oracle.safetensors")


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips(net: Net, folder: Path, oracle: dict[str, Tensor]) -> None:
    distances = Lpips.load(net, folder)(*map(from_uint8, crops())).double()
    for package in ("lpips", "torchmetrics"):
        torch.testing.assert_close(distances, oracle[f"{package}.{net}"], rtol=1e-6, atol=1e-7)
    heads = read_tensors(find_weights("lpips"))
    assert all(
        torch.equal(heads[f"{net}.lin{i}"].double(), oracle[f"head.{net}.lin{i}"]) for i in range(5)
    )


def test_inception(folder: Path, oracle: dict[str, Tensor]) -> None:
    features = Inception.load(folder / "inception.pth").features(crops()[0])
    assert features.logits is not None
    torch.testing.assert_close(features.pool3.double(), oracle["pool3"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.logits.double(), oracle["logits"], rtol=1e-4, atol=1e-5)


def test_the_frechet_distance(oracle: dict[str, Tensor]) -> None:
    sums = Moments(40), Moments(40)
    for rows, moments in zip(vectors(), sums, strict=True):
        moments.add(rows)
    assert frechet_distance(*sums) == pytest.approx(float(oracle["frechet"]), rel=1e-10)


def test_fid_and_the_score(folder: Path, oracle: dict[str, Tensor]) -> None:
    net = Inception.load(folder / "inception.pth")
    sums = Moments(2048), Moments(2048)
    for pictures, moments in zip(crops(), sums, strict=True):
        for batch in pictures.split(4):
            moments.add(net.features(batch).pool3)
    # Of so few pictures, the eigenvalues that others take the roots of are mostly rounding.
    for other in ("fid", "fid.torchmetrics"):
        wanted = pytest.approx(float(oracle[other]), rel=1e-5, abs=1e-4)
        assert frechet_distance(*sums) == wanted
    logits = net.features(crops()[0]).logits
    assert logits is not None
    for splits in (1, 4):
        predictions = Predictions(1008, splits=splits)
        predictions.add(logits, torch.arange(len(logits)))
        wanted = pytest.approx(oracle[f"score.{splits}"].tolist(), rel=1e-5)
        assert inception_score(predictions) == wanted
